"""The topic ``learning``: what policies that predict have at instances, and what they learn of them.

That is what ``ttft_aware`` works with: tokens to be computed, speeds of prefills, sizes of caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol
from weakref import WeakSet

import msgspec

from fd_router.state.gauges import Amount, Figures, Finite, SummedGauges, changes
from fd_router.state.topic import Topic, never_idle

MOST_OBSERVATIONS = 64
"""Of one frame: a speed is known well by fewer."""

MOST_HELD = 32
"""Prompts that wait at a process for an instance, as the others are told of them: those that go first."""

Waiting = tuple[Finite, Amount]
"""Of a prompt that waits: its rank, as that of one which has just come would be (the lowest goes first); its tokens."""

Speed = tuple[Amount, Amount, Amount]


class Learner(Protocol):
    """A policy that learns; see ``scheduling.ttft.policy``."""

    def work(self) -> Iterator[tuple[str, float, float, int]]:
        """Give (URL, tokens to be computed there, tokens that wait here for it, running requests)."""

    def held(self, url: str) -> list[Waiting]:
        """Return what waits here for it, the first one first."""

    def count_elsewhere(self, url: str, tokens: float, running: int) -> None:
        """Other routers have so much there."""

    def held_elsewhere(self, process: str, url: str, held: Sequence[Waiting]) -> None:
        """All that waits at another router for it, the first one first."""

    def observe_elsewhere(self, url: str, tokens: float, secs: float) -> None:
        """Another router has seen a prefill."""

    def learnt(self) -> tuple[Mapping[str, Speed], Mapping[str, float]]:
        """Return speeds and cache sizes, by URL."""

    def adopt(self, speeds: Mapping[str, Speed], sizes: Mapping[str, float]) -> None:
        """Begin with what another router has learnt."""


class _Told(msgspec.Struct, omit_defaults=True):
    whole: bool = False
    work: dict[str, Figures] = {}  # URL → tokens there, tokens held, running
    observed: list[tuple[str, Finite, Finite]] = []  # URL, tokens, seconds
    sizes: dict[str, Amount] = {}  # URL → blocks
    speeds: dict[str, Speed] = {}  # of a snapshot
    held: dict[str, list[Waiting]] = {}  # URL → what waits for it, of those in ``work`` for which something does


_decoder = msgspec.msgpack.Decoder(_Told)


class SharedLearning(Topic):
    """Among the learning policies of this process, and those of others. See ``scheduling.environment.Learning``."""

    name = "learning"

    def __init__(self) -> None:
        self._learners: WeakSet[Learner] = WeakSet()  # a model's policy goes with the model
        self.is_idle: Callable[[], bool] = never_idle
        """Whether no request is under way, which spares a look at all instances; a whole message has one."""
        self._told: dict[str, Figures] = {}
        self._observed: list[tuple[str, float, float]] = []
        self._sizes: dict[str, float] = {}
        self._others = SummedGauges(3, self._apply)
        self._held_for: dict[str, set[str]] = {}  # process → URLs for which something waits there

    # what this process' policies call

    def join(self, learner: Learner) -> None:
        """See ``Learning``."""
        self._learners.add(learner)

    def elsewhere(self, url: str) -> tuple[float, int]:
        """See ``Learning``."""
        tokens, _, running = self._others.sums(url)
        return tokens, int(running)

    def observed(self, url: str, tokens: float, secs: float) -> None:
        """See ``Learning``."""
        if len(self._observed) < MOST_OBSERVATIONS:
            self._observed.append((url, tokens, secs))

    def learnt_size(self, url: str, limit: float) -> None:
        """See ``Learning``."""
        self._sizes[url] = limit

    # what is told

    def gather(self, *, whole: bool) -> bytes | None:
        """See ``Topic``."""
        if not (whole or self._told or self._observed or self._sizes) and self.is_idle():
            return None
        now: dict[str, Figures] = {}
        for learner in self._learners:
            for url, *figures in learner.work():
                before = now.get(url, (0, 0, 0))
                now[url] = tuple(max(0, round(more + own)) for more, own in zip(before, figures, strict=True))
        told, self._told = self._told, now
        changed = now if whole else changes(told, now, 3)
        if not (changed or self._observed or self._sizes or (whole and len(self._learners))):
            return None
        news = _Told(whole, changed, self._observed, self._sizes, held=self._held(changed))
        self._observed, self._sizes = [], {}
        return msgspec.msgpack.encode(news)

    def _held(self, work: Mapping[str, Figures]) -> dict[str, list[Waiting]]:
        return {
            url: sorted(one for learner in self._learners for one in learner.held(url))[:MOST_HELD]
            for url, (_, held, _) in work.items()
            if held
        }

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        told = _decoder.decode(payload)
        self._take_held(process, told)
        self._others.take(process, told.work, whole=told.whole)
        for learner in self._learners:
            for url, tokens, secs in told.observed[:MOST_OBSERVATIONS]:
                if tokens > 0.0 and secs >= 0.0:
                    learner.observe_elsewhere(url, tokens, secs)
            if told.speeds or told.sizes:
                learner.adopt(told.speeds, told.sizes)

    def _take_held(self, process: str, told: _Told) -> None:
        """What waits for an instance is told whenever its figures are; a whole message has all there are."""
        known = self._held_for.get(process, set())
        for url in (*told.work, *(known - told.work.keys() if told.whole else ())):
            held = told.held.get(url, [])[:MOST_HELD]
            if held:
                known.add(url)
            elif url not in known:
                continue
            else:
                known.discard(url)
            for learner in self._learners:
                learner.held_elsewhere(process, url, held)
        if known:
            self._held_for[process] = known

    def snapshot(self) -> Iterator[bytes]:
        """See ``Topic``."""
        for learner in tuple(self._learners):  # one may come before the next part is taken
            speeds, sizes = learner.learnt()
            if speeds or sizes:
                yield msgspec.msgpack.encode(_Told(speeds=dict(speeds), sizes=dict(sizes)))

    def forget(self, process: str) -> None:
        """See ``Topic``."""
        for url in self._held_for.pop(process, ()):
            for learner in self._learners:
                learner.held_elsewhere(process, url, ())
        self._others.forget(process)

    def _apply(self, url: str, sums: Sequence[float]) -> None:
        for learner in self._learners:
            learner.count_elsewhere(url, sums[0], int(sums[2]))

    def __repr__(self) -> str:
        return f"<SharedLearning among {len(self._learners)} policies, others: {self._others!r}>"
