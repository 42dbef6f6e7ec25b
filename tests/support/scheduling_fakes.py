"""Candidates and requests to schedule, without anything behind them."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from fd_router.openai.precedence import Precedence
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.tracker import RequestTracker


class FakeCandidate:
    """An instance with counts that tests set."""

    is_saturated = False

    def __init__(self, number: int, running: int = 0, tokens: int = 0) -> None:
        self.key = f"10.0.0.{number}:8000"
        self.url = f"http://{self.key}"
        self.running = running
        self.tokens = tokens
        self.limit = 0
        self.role = "mixed"
        self.labels: dict[str, str] = {}

    def acquire(self, tokens: int) -> None:
        self.running += 1
        self.tokens += tokens

    def release_tokens(self, tokens: int) -> None:
        self.tokens -= tokens

    def release(self, tokens: int = 0) -> None:
        self.tokens -= tokens
        self.running -= 1


class FakeRequest:
    """A request with no prompt unless told."""

    def __init__(self, prompt: str = "") -> None:
        self.prompt = prompt
        self.tokens = len(prompt) * 2
        self.token_ids: array[int] | None = None
        self.stream = True
        self.model = self.session_id = self.user = ""
        self.max_tokens = 0
        self.headers: dict[str, str] = {}
        self.cache_seed = 0
        self.precedence: Precedence | None = None
        self.decisions: dict[str, str] | None = None

    @property
    def engine_prompt(self) -> str:
        return self.prompt

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())


def make_environment(seed: int = 1) -> Environment:
    return Environment(lambda: 0.0, random.Random(seed))


class Saturable(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def is_saturated(self) -> bool: ...


SaturableT = TypeVar("SaturableT", bound=Saturable)


class AskedGroup(Generic[SaturableT]):
    """A group that asks a test who is available, each time anew."""

    is_reserve = False

    def __init__(self, available: Callable[[], Sequence[SaturableT]]) -> None:
        self._available = available

    @property
    def available(self) -> Sequence[SaturableT]:
        return self._available()

    @property
    def is_saturated(self) -> bool:
        return bool(self.available) and not self.candidates()

    def candidates(self, excluded: Collection[str] = ()) -> Sequence[SaturableT]:
        available = self.available
        if not excluded and not any(each.is_saturated for each in available):
            return available
        return [each for each in available if not each.is_saturated and each.key not in excluded]


def fleet(*running: int) -> list[FakeCandidate]:
    """Make candidates 1, 2, … with these running requests."""
    return [FakeCandidate(number, count) for number, count in enumerate(running, 1)]


class Diary(RequestTracker):
    """A tracker that writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_first_token(self) -> None:
        self.heard.append("first token")

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        self.heard.append((prompt_tokens, cached_tokens))

    def on_end(self) -> None:
        self.heard.append("end")


class LearningPolicy(Policy):
    """Takes the first candidate and keeps the diaries of what it placed."""

    def __init__(self) -> None:
        self.placed: list[tuple[RequestView, Candidate, Diary]] = []

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        return candidates[0]

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> Diary:
        self.placed.append((request, candidate, diary := Diary()))
        return diary

    @property
    def heard(self) -> list[list[object]]:
        return [diary.heard for _, _, diary in self.placed]
