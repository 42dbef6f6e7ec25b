"""The contract between a policy and the scheduler: all that a policy may see, and the one thing it does."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec


class Candidate(Protocol):
    """An instance as a policy sees it: who it is and what it is busy with. Counts are this router's own."""

    @property
    def url(self) -> str:
        """``http://IP:PORT``, the instance's name in logs and metrics."""

    @property
    def running(self) -> int:
        """Requests sent there and not yet finished."""

    @property
    def tokens(self) -> int:
        """Estimated prompt tokens sent there whose prefill isn't known to be done."""


class RequestView(Protocol):
    """A request as a policy sees it."""

    @property
    def prompt(self) -> str:
        """The prompt's text: messages stripped and joined by one space."""

    @property
    def tokens(self) -> int:
        """Estimated prompt tokens: characters × 2, as FastDeploy's router counts."""

    @property
    def token_ids(self) -> array[int] | None:
        """The prompt's tokens as 32-bit unsigned numbers, when a tokenizer told them."""


class Choice(msgspec.Struct, frozen=True):
    """How a cache-aware policy came to its choice, for the log and the session metrics."""

    selected: str  # the URL
    reason: str  # why the prefix didn't decide; "" when it did
    candidates: Sequence[Candidate]
    loads: Sequence[float]  # of the candidates, in their order
    hit_ratios: Mapping[str, int]  # URL → percent of the prompt's blocks known there, where there are any


OnChoice = Callable[[RequestView, Choice], None]


class Policy(Protocol):
    """Chooses one of the candidates. Pure: no I/O, no globals; its own state only."""

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return one of ``candidates``, which is never empty and ordered by URL."""


class Environment:
    """What a policy is built with: clock (monotonic seconds), randomness, and whom to tell of a cache-aware choice."""

    __slots__ = ("clock", "on_choice", "random")

    def __init__(self, clock: Callable[[], float], rng: random.Random, on_choice: OnChoice | None = None) -> None:
        self.clock = clock
        self.random = rng
        self.on_choice = on_choice


class Countable(Candidate, Protocol):
    """A candidate whose counts the scheduler keeps."""

    @property
    def key(self) -> str:
        """``host:port``, the identity of the instance."""

    def take(self, tokens: int) -> None:
        """Count one more request with ``tokens`` prompt tokens."""

    def give_back_tokens(self, tokens: int) -> None:
        """Those tokens' prefill is done, or will never be."""

    def give_back_request(self) -> None:
        """One request ended."""


InstanceT = TypeVar("InstanceT", bound=Countable)


class Decision(Generic[InstanceT]):
    """A request's place at an instance: counted when made, to be given back once.

    Both ways of giving back may be called again without effect, so that every ending of an exchange can
    call them and none counts twice.
    """

    __slots__ = ("_holds_request", "_holds_tokens", "instance", "tokens")

    def __init__(self, instance: InstanceT, tokens: int) -> None:
        self.instance = instance
        self.tokens = tokens
        self._holds_request = True
        self._holds_tokens = tokens > 0
        instance.take(tokens)

    def prefill_done(self) -> bool:
        """Give the tokens back. Returns whether they were still held."""
        if not self._holds_tokens:
            return False
        self._holds_tokens = False
        self.instance.give_back_tokens(self.tokens)
        return True

    def release(self) -> bool:
        """Give the request back. Returns whether it was still held."""
        if not self._holds_request:
            return False
        self._holds_request = False
        self.instance.give_back_request()
        return True

    def __repr__(self) -> str:
        return f"<Decision {self.instance.url} tokens={self.tokens} {'held' if self._holds_request else 'given back'}>"
