"""A policy's environment: clock, randomness, and what the router knows of the fleet beside the candidates' counts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.request_view import RequestView

if TYPE_CHECKING:  # it needs NumPy, and most policies don't
    from fd_router.scheduling.prefix.lookup import PrefixLookup

LOAD_MAX_AGE_SECS = 2.0
"""How long an instance's own figures hold where nobody says otherwise."""


class Choice(msgspec.Struct, frozen=True):
    """How a cache-aware policy came to its choice, for the log and the session metrics."""

    selected: str  # the URL
    reason: str  # why the prefix didn't decide; "" when it did
    candidates: Sequence[Candidate]
    loads: Sequence[float]  # of the candidates, in their order
    hit_ratios: Mapping[str, int]  # URL → percent of the prompt's blocks known there, where there are any
    strategy: str = "cache_aware_scoring"  # what decided when there is no reason
    hit: int = 0  # percent known where it goes, however that was decided
    blocks: int = 0  # of the prompt


OnChoice = Callable[[RequestView, Choice], None]


MakeLookup = Callable[[PrefixIndex, int], "PrefixLookup"]
"""(index, tokens of its blocks) → what finds prompts there."""


class Timer(Protocol):
    """Something that is going to be called."""

    def cancel(self) -> None:
        """Let it not be called, if it wasn't yet."""


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls a function in so many seconds."""


class Predictions(Protocol):
    """Who is told how good a policy's predictions were."""

    def first_token(self, predicted: float, observed: float) -> None:
        """A first token came ``observed`` seconds after the request was sent; ``predicted`` were said."""

    def held(self, priority: str, seconds: float) -> None:
        """A prompt of ``priority`` was sent, for which it has waited in the router."""

    def deadline(self, *, is_met: bool) -> None:
        """A first token came before the request's deadline, or after it."""

    def cached_tokens(self, predicted: int, told: int) -> None:
        """The engine told that so many tokens of a prompt were cached; ``predicted`` were thought to be."""


class Learning(Protocol):
    """What a policy tells those of other routers; see ``state.topics.learning``."""

    def join(self, learner: Any) -> None:
        """A policy that learns is there, as ``state.topics.learning.Learner``."""

    def elsewhere(self, url: str) -> tuple[float, int]:
        """Return what ``count_elsewhere`` is to be told of an instance that has just been met."""

    def observed(self, url: str, tokens: float, secs: float) -> None:
        """A prefill of ``tokens`` took ``secs``."""

    def learnt_size(self, url: str, limit: float) -> None:
        """The cache of an instance holds about so many blocks."""


class Environment:
    """What a policy is built with: clock (monotonic seconds), randomness, role, and whom to tell of what it does.

    ``load_table`` gives the counts of many candidates faster than they do; without one, they are asked. ``later``, if
    any, calls what is to be done after a time: then a policy's trackers may hold requests (``RequestTracker.hold``).
    ``index`` and ``reported_loads`` are kept up to date where a policy of the router ``needs`` them, and may
    be shared by roles: no instance has two at a time. ``learning``: by whom policies of several routers tell each other
    of their work and what they learn; None: this router is alone. ``lookup``
    makes what finds prompts in the index; None: what goes by that alone. ``reads_engine_prompt``: a policy that goes by
    ``RequestView.engine_prompt`` may; it mustn't where the index is another's, which goes by ``prompt``.
    """

    __slots__ = (
        "clock",
        "index",
        "later",
        "learning",
        "load_table",
        "lookup",
        "on_choice",
        "predictions",
        "random",
        "reads_engine_prompt",
        "reported_loads",
        "role",
    )

    def __init__(
        self,
        clock: Callable[[], float],
        rng: random.Random,
        on_choice: OnChoice | None = None,
        *,
        role: str = "mixed",
        predictions: Predictions | None = None,
        later: Later | None = None,
        index: PrefixIndex | None = None,
        reported_loads: ReportedLoads | None = None,
        load_table: LoadTable | None = None,
        learning: Learning | None = None,
        lookup: MakeLookup | None = None,
        reads_engine_prompt: bool = True,
    ) -> None:
        self.load_table = LoadTable(is_told=False) if load_table is None else load_table
        self.clock = clock
        self.random = rng
        self.on_choice = on_choice
        self.role = role  # of the candidates: mixed, prefill or decode
        self.predictions = predictions
        self.later = later
        self.learning = learning
        self.reads_engine_prompt = reads_engine_prompt
        self.lookup = _plain_lookup if lookup is None else lookup
        self.index = PrefixIndex(clock) if index is None else index
        self.reported_loads = ReportedLoads(clock, LOAD_MAX_AGE_SECS) if reported_loads is None else reported_loads


def _plain_lookup(index: PrefixIndex, block_size: int) -> PrefixLookup:
    from fd_router.scheduling.prefix.lookup import PrefixLookup  # noqa: PLC0415

    return PrefixLookup(index, block_size)
