"""The contract between a policy and the scheduler: all that a policy may see, and the one thing it does."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

import msgspec

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.load_table import LoadTable


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

    @property
    def stream(self) -> bool:
        """Whether the answer is a stream, so that its first token will be heard of."""


class Choice(msgspec.Struct, frozen=True):
    """How a cache-aware policy came to its choice, for the log and the session metrics."""

    selected: str  # the URL
    reason: str  # why the prefix didn't decide; "" when it did
    candidates: Sequence[Candidate]
    loads: Sequence[float]  # of the candidates, in their order
    hit_ratios: Mapping[str, int]  # URL → percent of the prompt's blocks known there, where there are any
    strategy: str = "cache_aware_scoring"  # what decided when there is no reason
    hit: int = 0  # percent known where it goes, however that was decided


OnChoice = Callable[[RequestView, Choice], None]


class Timer(Protocol):
    """Something that is going to be called."""

    def cancel(self) -> None:
        """Let it not be called, if it wasn't yet."""


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls a function in so many seconds."""


class Policy(Protocol):
    """Chooses one of the candidates. Pure: no I/O, no globals; its own state only."""

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return one of ``candidates``, which is never empty and ordered by URL."""


class Standing(msgspec.Struct, frozen=True):
    """What a policy makes of one candidate. None: it doesn't look at that."""

    candidate: Candidate
    hit: int | None = None  # percent of the prompt's blocks known there
    load: float | None = None
    score: float | None = None  # of all candidates' the lowest wins


class Explanation(msgspec.Struct, frozen=True):
    """How a policy would choose now."""

    reason: str  # one sentence without anything of the prompt
    standings: Sequence[Standing]  # of the candidates, in their order
    best: Sequence[int]  # places of those that may be chosen: several when chance decides among them


class Explaining(Protocol):
    """A policy that can also say how it would choose. One that can't is shown with its candidates' counts."""

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Explain the choice that ``choose`` would make now, without changing anything: no index, no turn, no draw."""


class RequestTracker(Protocol):
    """What a policy that learns keeps of a request it placed. Each is called at most once, ``on_end`` always.

    A first token that comes after the end, or from an answer that is an error, isn't told.
    """

    def on_first_token(self) -> None:
        """The prefill is done: the first byte of a stream came, or the answer of a prefill instance."""

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """The engine told how long the prompt was, and how much of it was cached; perhaps after ``on_end``."""

    def on_end(self) -> None:
        """The request is over here, however it ended."""


@runtime_checkable
class Learner(Protocol):
    """What a policy may have besides ``choose``: it wants to hear what becomes of the requests it placed."""

    def place(self, request: RequestView, candidate: Candidate) -> RequestTracker:
        """Note that ``request`` is being sent to ``candidate``, which ``choose`` returned just before."""


class Patient(RequestTracker, Protocol):
    """A placement of a request that may have to wait before it is sent. Only where the environment has ``later``."""

    def waits(self, send: Callable[[], None]) -> bool:
        """Return whether the request is to wait, and then call ``send`` when it is to be sent, unless it ended."""


@runtime_checkable
class Leavable(Protocol):
    """What a policy may have besides ``choose``: it wants to hear of instances that get nothing new any more."""

    def on_instance_unavailable(self, url: str) -> None:
        """It left, is down, drains, is paused, or its circuit is open."""


class Predictions(Protocol):
    """Who is told how good a policy's predictions were."""

    def first_token(self, predicted: float, observed: float) -> None:
        """A first token came ``observed`` seconds after the request was sent; ``predicted`` were said."""

    def cached_tokens(self, predicted: int, told: int) -> None:
        """The engine told that so many tokens of a prompt were cached; ``predicted`` were thought to be."""


class Environment:
    """What a policy is built with: clock (monotonic seconds), randomness, role, and whom to tell of what it does.

    ``load_table`` gives the counts of many candidates faster than they do. ``later``, if any, calls what is to be
    done after a time: then a policy's placements may let requests wait (``Reservation.waits``).
    """

    __slots__ = ("clock", "later", "load_table", "on_choice", "predictions", "random", "role")

    def __init__(
        self,
        clock: Callable[[], float],
        rng: random.Random,
        on_choice: OnChoice | None = None,
        *,
        role: str = "mixed",
        predictions: Predictions | None = None,
        later: Later | None = None,
    ) -> None:
        self.load_table = LoadTable()
        self.clock = clock
        self.random = rng
        self.on_choice = on_choice
        self.role = role  # of the candidates: mixed, prefill or decode
        self.predictions = predictions
        self.later = later


class Reservable(Candidate, Protocol):
    """A candidate whose counts the scheduler keeps."""

    @property
    def key(self) -> str:
        """``host:port``, the identity of the instance."""

    def acquire(self, tokens: int) -> None:
        """Count one more request with ``tokens`` prompt tokens."""

    def release_tokens(self, tokens: int) -> None:
        """Those tokens' prefill is done, or will never be."""

    def release(self, tokens: int = 0) -> None:
        """One request ended, with so many tokens that weren't given back before."""


InstanceT = TypeVar("InstanceT", bound=Reservable)


class Reservation(Generic[InstanceT]):
    """A request's place at an instance: counted when made, to be given back once.

    Both ways of giving back may be called again without effect, so that every ending of an exchange can
    call them and none counts twice. ``placement`` is the policy's, when it wants to hear what becomes of this.
    """

    __slots__ = (
        "_awaits_first", "_holds_request", "holds_tokens", "instance", "placement", "tokens", "wants_usage",
    )  # fmt: skip

    def __init__(self, instance: InstanceT, tokens: int, placement: RequestTracker | None = None) -> None:
        self.instance = instance
        self.tokens = tokens
        self._holds_request = True
        self.holds_tokens = tokens > 0
        self.placement = placement
        self._awaits_first = self.wants_usage = placement is not None
        instance.acquire(tokens)

    def waits(self, send: Callable[[], None]) -> bool:
        """Return whether the policy lets the request wait; then it calls ``send`` once, unless this is released."""
        waits: Callable[[Callable[[], None]], bool] | None = getattr(self.placement, "waits", None)
        return waits is not None and waits(send)

    def first_token(self) -> None:
        """Tell the policy, once, that the prefill is done: an answer that isn't an error shows it."""
        if self._awaits_first and self.placement is not None:
            self._awaits_first = False
            self.placement.on_first_token()

    def usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """Tell the policy what the engine said of the prompt."""
        if self.wants_usage and self.placement is not None:
            self.wants_usage = False
            self.placement.on_usage(prompt_tokens, cached_tokens)

    def prefill_done(self) -> bool:
        """Give the tokens back. Returns whether they were still held."""
        if not self.holds_tokens:
            return False
        self.holds_tokens = False
        self.instance.release_tokens(self.tokens)
        return True

    def release(self) -> bool:
        """Give the request back, and its tokens if they are still held. Returns whether it was held."""
        if not self._holds_request:
            return False
        self._holds_request = False
        self.instance.release(self.tokens if self.holds_tokens else 0)
        self.holds_tokens = False
        if self.placement is not None:
            self._awaits_first = False
            self.placement.on_end()
        return True

    def __repr__(self) -> str:
        return (
            f"<Reservation {self.instance.url} tokens={self.tokens} {'held' if self._holds_request else 'given back'}>"
        )
