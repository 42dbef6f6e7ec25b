"""The topic ``learning``: what policies that predict have at instances, and what they learn of them.

That is what ``ttft_aware`` works with: tokens to be computed, speeds of prefills, sizes of caches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from weakref import WeakSet

import msgspec

from fd_router.state.gauges import Figures, SummedGauges, changes
from fd_router.state.topic import Topic

MOST_OBSERVATIONS = 64
"""Of one frame: a speed is known well by fewer."""

Speed = tuple[float, float, float]


class Learner(Protocol):
    """A policy that learns; see ``scheduling.ttft.policy``."""

    def work(self) -> Iterator[tuple[str, float, float, int]]:
        """Give (URL, tokens to be computed there, tokens that wait here for it, running requests)."""

    def count_elsewhere(self, url: str, tokens: float, held: float, running: int) -> None:
        """Other routers have so much there."""

    def observe_elsewhere(self, url: str, tokens: float, secs: float) -> None:
        """Another router has seen a prefill."""

    def learnt(self) -> tuple[Mapping[str, Speed], Mapping[str, float]]:
        """Return speeds and cache sizes, by URL."""

    def adopt(self, speeds: Mapping[str, Speed], sizes: Mapping[str, float]) -> None:
        """Begin with what another router has learnt."""


class _Told(msgspec.Struct, omit_defaults=True):
    whole: bool = False
    work: dict[str, Figures] = {}  # URL → tokens there, tokens held, running
    observed: list[tuple[str, float, float]] = []  # URL, tokens, seconds
    sizes: dict[str, float] = {}  # URL → blocks
    speeds: dict[str, Speed] = {}  # of a snapshot


_decoder = msgspec.msgpack.Decoder(_Told)


class SharedLearning(Topic):
    """Among the learning policies of this process, and those of others. See ``scheduling.environment.Learning``."""

    name = "learning"

    def __init__(self) -> None:
        self._learners: WeakSet[Learner] = WeakSet()  # a model's policy goes with the model
        self._told: dict[str, Figures] = {}
        self._observed: list[tuple[str, float, float]] = []
        self._sizes: dict[str, float] = {}
        self._others = SummedGauges(3, self._apply)

    # what this process' policies call

    def join(self, learner: Learner) -> None:
        """See ``Learning``."""
        self._learners.add(learner)

    def elsewhere(self, url: str) -> tuple[float, float, int]:
        """See ``Learning``."""
        tokens, held, running = self._others.sums(url)
        return tokens, held, int(running)

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
        now: dict[str, Figures] = {}
        for learner in self._learners:
            for url, *figures in learner.work():
                before = now.get(url, (0, 0, 0))
                now[url] = tuple(round(more + own) for more, own in zip(before, figures, strict=True))
        told, self._told = self._told, now
        changed = now if whole else changes(told, now, 3)
        if not (changed or self._observed or self._sizes or (whole and told)):
            return None
        news = _Told(whole, changed, self._observed, self._sizes)
        self._observed, self._sizes = [], {}
        return msgspec.msgpack.encode(news)

    def take(self, process: str, payload: msgspec.Raw) -> None:
        """See ``Topic``."""
        told = _decoder.decode(payload)
        self._others.take(process, told.work, whole=told.whole)
        for learner in self._learners:
            for url, tokens, secs in told.observed[:MOST_OBSERVATIONS]:
                if tokens > 0.0 and secs >= 0.0:
                    learner.observe_elsewhere(url, tokens, secs)
            if told.speeds or told.sizes:
                learner.adopt(told.speeds, told.sizes)

    def snapshot(self) -> Iterator[bytes]:
        """See ``Topic``."""
        for learner in self._learners:
            speeds, sizes = learner.learnt()
            if speeds or sizes:
                yield msgspec.msgpack.encode(_Told(speeds=dict(speeds), sizes=dict(sizes)))

    def forget(self, process: str) -> None:
        """See ``Topic``."""
        self._others.forget(process)

    def _apply(self, url: str, sums: Sequence[float]) -> None:
        for learner in self._learners:
            learner.count_elsewhere(url, sums[0], sums[1], int(sums[2]))

    def __repr__(self) -> str:
        return f"<SharedLearning among {len(self._learners)} policies, others: {self._others!r}>"
