"""Progress: an instance whose streams are all silent, while other instances' go on, gets nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from fd_router.capacity.limits import Limits
from fd_router.capacity.sparing import can_spare
from fd_router.http.pace import Pace
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.moments import until_next
from fd_router.telemetry.contracts import Log

INTERVAL_SECS: Final = 0.5
"""How often each instance is looked at: a shorter pause between two tokens isn't told from this one."""

SILENCE_SECS: Final = 10.0
USUAL_GAPS: Final = 20.0
"""Streams are silent that got nothing for so long, and for so many times as long as is usual there."""

OTHERS_SECS: Final = 2.0
"""Others go on that got something within so long."""

TRIAL: Final = "stuck"


class _Seen:
    """What is known of an instance's streams: when bytes came last, and how long it usually takes until more do."""

    __slots__ = ("gap", "instance", "last")

    def __init__(self, instance: Instance, last: float) -> None:
        self.instance = instance
        self.last = last
        self.gap = 0.0  # seconds, 0.0: no stream has got more than its first bytes


class Progress:
    """Finds engines that are stuck although they answer probes: their core has stopped, their server hasn't.

    Nothing that runs there is cut. When bytes come again, the instance is as good as before; when its streams end
    without any, it gets one request at a time until it has answered one. ``min_share`` of a group's instances are
    always left.
    """

    def __init__(
        self,
        registry: Registry,
        limits: Limits,
        streaming: Callable[[str], tuple[int, float, float]],
        on_capacity: Callable[[], None],
        *,
        min_share: float,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        """``streaming``: how many streams run at the instance with a key, and when bytes of one came last.

        And for how many seconds one has been delivering, from its first bytes to the last so far.
        """
        self._registry = registry
        self._limits = limits
        self._streaming = streaming
        self._on_capacity = on_capacity
        self._min_share = min_share
        self._clock = clock
        self._log = log
        self._seen: dict[str, _Seen] = {}
        self._on_trial: dict[str, tuple[Instance, float]] = {}  # key → since when
        registry.on_removed(self._forget)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(until_next(INTERVAL_SECS, asyncio.get_running_loop().time()))
            pace = Pace()
            for _ in self._looks():
                await pace.breathe()

    def tick(self) -> None:
        """Look at all instances once."""
        for _ in self._looks():
            pass

    def _looks(self) -> Iterator[None]:
        """Do so one by one."""
        for instance in self._at_work():
            if self._registry.get(instance.key) is instance:  # else it was removed since: nothing is known of it
                self._look(instance)
            yield
        self._judge()

    def _at_work(self) -> list[Instance]:
        """Return those where something runs, or ran when they were last looked at: of a large fleet, often few."""
        seen = self._seen
        return [each for each in self._registry.all() if each.running or (seen and each.key in seen)]

    def _look(self, instance: Instance) -> None:
        """Note what an instance delivered. A prefill instance's answers say nothing: their tokens come from decode."""
        key = instance.key
        streams, last, delivering = self._streaming(key) if instance.role != "prefill" else (0, 0.0, 0.0)
        seen = self._seen.get(key)
        if not streams:
            self._seen.pop(key, None)
            if instance.is_stuck:
                self._release(instance, "its streams have ended: one request at a time until it answers")
                self._on_trial[key] = (instance, self._clock())
                self._limits.cap(instance, TRIAL, 1)
        elif seen is None or seen.instance is not instance:
            self._seen[key] = seen = _Seen(instance, last)
            if delivering:  # all that came between two looks: no pause was longer than that
                seen.gap = INTERVAL_SECS
        elif last > seen.last:
            pause, seen.last = last - seen.last, last
            seen.gap = pause if not seen.gap else 0.7 * seen.gap + 0.3 * pause
            if instance.is_stuck:
                self._release(instance, "its streams go on")

    def _judge(self) -> None:
        now = self._clock()
        going_on = [seen.instance for seen in self._seen.values() if now - seen.last < OTHERS_SECS]
        for seen in self._seen.values() if going_on else ():
            silence = now - seen.last
            is_silent = seen.gap and silence > max(SILENCE_SECS, USUAL_GAPS * seen.gap)
            if is_silent and not seen.instance.is_stuck and can_spare(self._registry, seen.instance, self._min_share):
                self._log.warn(
                    f"{seen.instance.url} is stuck: nothing came of its streams for {silence:.0f} s while others go "
                    "on; it gets nothing new"
                )
                self._registry.set_stuck(seen.instance, stuck=True)
        for key, (instance, since) in tuple(self._on_trial.items()):
            if instance.answered_at > since:
                del self._on_trial[key]
                self._limits.cap(instance, TRIAL, 0)

    def _release(self, instance: Instance, why: str) -> None:
        self._log.info(f"{instance.url} is no longer stuck: {why}")
        self._registry.set_stuck(instance, stuck=False)
        self._on_capacity()

    def _forget(self, instance: Instance) -> None:
        self._seen.pop(instance.key, None)
        self._on_trial.pop(instance.key, None)

    def __repr__(self) -> str:
        return f"<Progress {sum(seen.instance.is_stuck for seen in self._seen.values())} stuck>"
