"""The learner: what one router's ``ttft_aware`` tells those of others, and what it makes of what they tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from fd_router.scheduling.ttft.cache_sizes import CacheSizes
from fd_router.scheduling.ttft.held_elsewhere import HeldElsewhere, Waiting, told_rank
from fd_router.scheduling.ttft.held_prompts import HeldPrompts, HoldQueue
from fd_router.scheduling.ttft.prefill_queue import PrefillQueue
from fd_router.scheduling.ttft.prefill_speed import PrefillSpeed

Speed = tuple[float, float, float]


class Owner(Protocol):
    """The policy."""

    @property
    def now(self) -> Callable[[], float]:
        """Its clock."""

    def backlog_of(self, url: str) -> PrefillQueue:
        """Return an instance's queue, a new one if it has none."""

    def publish_all(self) -> None:
        """The fleet's speed has changed."""


class TtftLearner:
    """See ``state.topics.learning.Learner``. It looks at the policy's own queues, speeds and sizes."""

    def __init__(
        self,
        backlogs: Mapping[str, PrefillQueue],
        hold_queues: Mapping[str, HoldQueue],
        fleet: PrefillSpeed,
        sizes: CacheSizes | None,
        owner: Owner,
        waiting: HeldPrompts,
    ) -> None:
        self._backlogs = backlogs
        self._hold_queues = hold_queues
        self._fleet = fleet
        self._sizes = sizes
        self._owner = owner
        self._waiting = waiting
        self._elsewhere: dict[str, HeldElsewhere] = {}  # by URL

    def work(self) -> Iterator[tuple[str, float, float, int]]:
        """Give (URL, tokens to be computed there, tokens that wait here for it, requests), where there are any."""
        now = self._owner.now()
        for url, backlog in self._backlogs.items():
            if backlog.running:
                yield url, backlog.tokens_left(now), self._hold_queues[url].tokens, backlog.running

    def held(self, url: str) -> list[Waiting]:
        """Return what waits here for it, the first one first."""
        hold_queue = self._hold_queues.get(url)
        if hold_queue is None:
            return []
        now = self._owner.now()
        return [(told_rank(each.rank, now), each.tokens) for each in hold_queue.held()]

    def count_elsewhere(self, url: str, tokens: float, running: int) -> None:
        """Other routers have so much at an instance now."""
        if (backlog := self._backlogs.get(url)) is not None:
            backlog.count_elsewhere(tokens, running)
            self._hold_queues[url].feed(self._owner.now())

    def held_elsewhere(self, process: str, url: str, held: Sequence[Waiting]) -> None:
        """All that waits at another router for it, the first one first."""
        if (hold_queue := self._hold_queues.get(url)) is None:
            return
        elsewhere = self._elsewhere.get(url)
        if elsewhere is None:
            elsewhere = self._elsewhere[url] = HeldElsewhere(self._waiting, hold_queue.slot)
        elsewhere.know(process, held, self._owner.now())
        hold_queue.elsewhere = elsewhere or None

    def drop(self, url: str) -> None:
        """An instance is long gone."""
        if (elsewhere := self._elsewhere.pop(url, None)) is not None:
            elsewhere.forget()

    def observe_elsewhere(self, url: str, tokens: float, secs: float) -> None:
        """Another router has seen a prefill of ``tokens`` take ``secs``."""
        if (backlog := self._backlogs.get(url)) is not None:
            backlog.speed.observe(tokens, secs)
            self._fleet.observe(tokens, secs)
            backlog.publish()

    def learnt(self) -> tuple[dict[str, Speed], Mapping[str, float]]:
        """Return what was learnt: speeds by URL, "" being the fleet's (``PrefillSpeed.learnt``), and cache sizes."""
        speeds = {url: backlog.speed.learnt for url, backlog in self._backlogs.items() if backlog.speed.is_known}
        if self._fleet.is_known:
            speeds[""] = self._fleet.learnt
        return speeds, self._sizes.learnt if self._sizes is not None else {}

    def adopt(self, speeds: Mapping[str, Speed], sizes: Mapping[str, float]) -> None:
        """Go by what another router has learnt: by its speeds where nothing was observed here."""
        for url, speed in speeds.items():
            (self._owner.backlog_of(url).speed if url else self._fleet).adopt(*speed)
        for url, limit in sizes.items():
            if self._sizes is not None:
                self._sizes.adopt(url, limit)
        if speeds:
            self._owner.publish_all()
