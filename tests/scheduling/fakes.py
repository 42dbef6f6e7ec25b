"""Candidates and requests to schedule, without anything behind them."""

from __future__ import annotations

import random
from array import array

from fd_router.scheduling.contract import Environment


class FakeCandidate:
    """An instance with counts that tests set."""

    def __init__(self, number: int, running: int = 0, tokens: int = 0) -> None:
        self.key = f"10.0.0.{number}:8000"
        self.url = f"http://{self.key}"
        self.running = running
        self.tokens = tokens

    def take(self, tokens: int) -> None:
        self.running += 1
        self.tokens += tokens

    def give_back_tokens(self, tokens: int) -> None:
        self.tokens -= tokens

    def give_back_request(self) -> None:
        self.running -= 1


class FakeRequest:
    """A request with no prompt unless told."""

    def __init__(self, prompt: str = "") -> None:
        self.prompt = prompt
        self.tokens = len(prompt) * 2
        self.token_ids: array[int] | None = None


def make_environment(seed: int = 1) -> Environment:
    return Environment(lambda: 0.0, random.Random(seed))


def fleet(*running: int) -> list[FakeCandidate]:
    """Make candidates 1, 2, … with these running requests."""
    return [FakeCandidate(number, count) for number, count in enumerate(running, 1)]
