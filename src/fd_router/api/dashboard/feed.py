"""The dashboard's feed: a frame a second for all who look, and nothing at all while nobody does.

A frame is made in slices: an entry for each of 10,000 instances takes 80 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, Protocol

import msgspec

from fd_router.admission.allowance import Allowance
from fd_router.api.dashboard.decisions import DecisionList
from fd_router.api.dashboard.fleet import instance_entry, key_entry
from fd_router.api.dashboard.traffic import Interval, Sums
from fd_router.api.dashboard.troubles import TroubleList
from fd_router.http.messages import EventOutlet, json_entry, json_response
from fd_router.http.pace import in_slices, paced
from fd_router.instances.instance import Instance
from fd_router.scheduling.decision_tap import DecisionTap
from fd_router.telemetry.telemetry import Telemetry

FRAME_SECS: Final = 1.0


class Timer(Protocol):
    """Something that is going to be called."""

    def cancel(self) -> None:
        """Let it not be called."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What the feed looks at when a frame is made."""

    about: Callable[[], Mapping[str, Any]]  # the router: what seldom changes
    members: Callable[[], Iterable[Instance]]
    removed_in_use: Callable[[], Iterable[Instance]]
    circuits: Callable[[], Iterable[tuple[Instance, Enum]]]
    cached_blocks: Callable[[str], int] | None
    queue: Callable[[], Mapping[str, int]]
    keys: Callable[[], Iterable[Allowance]]
    inference: frozenset[str]  # endpoints


class Viewer:
    """One who looks. ``level`` tells what may be seen now: all, the fleet and its traffic only, or (None) nothing."""

    __slots__ = ("level", "outlet", "sees_all")

    def __init__(self, outlet: EventOutlet, level: Callable[[], bool | None]) -> None:
        self.outlet = outlet
        self.level = level
        self.sees_all = level()


class Feed:
    """Sends frames to viewers. With the first one it begins to watch, and when the last one leaves it stops."""

    def __init__(
        self,
        watched: Watched,
        telemetry: Telemetry,
        tap: DecisionTap,
        *,
        later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """``clock``: monotonic seconds; ``wall_clock``: those since 1970."""
        self._watched = watched
        self._telemetry = telemetry
        self._tap = tap
        self._later = later
        self._clock = clock
        self._wall_clock = wall_clock
        self._decisions = DecisionList(wall_clock)
        self.troubles = TroubleList(wall_clock)
        self._interval = Interval(watched.inference)
        self._viewers: list[Viewer] = []
        self._timer: Timer | None = None
        self._framed_at = 0.0

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    def watch(self, outlet: EventOutlet, level: Callable[[], bool | None], first: bytes) -> Callable[[], None]:
        """Send ``first`` and then frames to ``outlet``. Returns what is to be called when it is gone."""
        viewer = Viewer(outlet, level)
        if not self._viewers:
            self._begin()
        self._viewers.append(viewer)
        outlet.send(first)

        def leave() -> None:
            if viewer in self._viewers:
                self._viewers.remove(viewer)
                if not self._viewers:
                    self._end()

        return leave

    async def snapshot(self, *, sees_all: bool) -> bytes:
        """Make a frame of now for somebody who begins to look, with what was kept; rates come with the next one."""
        frame = await paced(self._public())
        if sees_all:
            if not self._viewers:
                for each in (self._decisions, self.troubles):  # what was before is in everybody's first frame
                    each.take()
            frame["decisions"], frame["troubles"] = self._decisions.taken(), self.troubles.taken()
        return _event("state", frame)

    def _begin(self) -> None:
        self._telemetry.metrics.settle()  # what was before isn't traffic of now
        self._telemetry.metrics.observer = self._interval.observe
        self._interval.begin(self._telemetry.metrics.models.totals())
        self._telemetry.add(self.troubles)
        self._telemetry.add(self._interval)
        self._tap.show(self._decisions)
        self._framed_at = self._clock()
        self._next()

    def _end(self) -> None:
        self._telemetry.metrics.observer = None
        self._telemetry.remove(self.troubles)
        self._telemetry.remove(self._interval)
        self._tap.show(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        self._timer = self._later(FRAME_SECS, self._tick)

    def _tick(self) -> None:
        for viewer in tuple(self._viewers):
            if viewer.level() != viewer.sees_all:  # a session ended, or a token changed: it has to ask anew
                viewer.outlet.end()
        if self._viewers:
            in_slices(self._send_frame(), self._later)

    def _send_frame(self) -> Iterator[None]:
        """Make a frame and send it. One that fails is not the last: the next may do."""
        timer = self._timer
        try:
            yield from self._make_frame(timer)
        except Exception:
            if self._timer is timer:
                self._next()
            raise

    def _make_frame(self, timer: Timer | None) -> Iterator[None]:
        """Make one of the time since the last one, for those who see the fleet, and for those who see all.

        ``timer``: the feed's, which is another one once the last viewer has left.
        """
        now = self._clock()
        seconds, self._framed_at = max(now - self._framed_at, 0.001), now
        metrics, interval = self._telemetry.metrics, self._interval
        metrics.settle()
        models = metrics.models.totals()
        traffic, by_url = interval.as_json(seconds, models), interval.by_url
        interval.begin(models)
        frame = yield from self._public(by_url, seconds)
        if self._timer is not timer:
            return
        frame["traffic"] = traffic
        public = _event("state", frame)
        frame["decisions"], frame["decisions_unseen"] = self._decisions.take()
        frame["troubles"], frame["troubles_unseen"] = self.troubles.take()
        full = _event("state", frame)
        for viewer in tuple(self._viewers):
            viewer.outlet.send(full if viewer.sees_all else public)
        self._next()

    def _public(
        self, by_url: Mapping[str, Sums] | None = None, seconds: float = 1.0
    ) -> Generator[None, None, dict[str, Any]]:
        """Make what everybody may see. ``by_url``: what each instance did in so many ``seconds``."""
        watched = self._watched
        circuits = {instance.key: str(circuit.value) for instance, circuit in watched.circuits()}
        instances, keys = [], []
        for members, removed in ((watched.members(), False), (watched.removed_in_use(), True)):
            for instance in members:
                circuit = "" if removed else circuits.get(instance.key, "")
                entry = instance_entry(instance, circuit, watched.cached_blocks, removed=removed)
                if by_url and (sums := by_url.get(instance.url)) is not None:
                    entry["rate"] = round(sums.requests / seconds, 1)
                    entry["failed"] = round(sums.failed / seconds, 2)
                    entry["ttft_ms"] = sums.mean_first_ms
                instances.append(json_entry(entry))
                yield
        for allowance in sorted(watched.keys(), key=lambda one: one.key.name):
            keys.append(json_entry(key_entry(allowance)))
            yield
        return {
            "at": round(self._wall_clock(), 3),
            "router": watched.about(),
            "instances": instances,
            "queue": watched.queue(),
            "keys": keys,
        }


def _event(name: str, value: Any) -> bytes:
    """Write a server-sent event. JSON is one line, whatever it holds."""
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), json_response(200, value).body)


def hello_event(value: Mapping[str, Any]) -> bytes:
    """Write the first event: who this is, and what its viewer may do. Clients come again in 2 s when it breaks off."""
    return b"retry: 2000\n" + _event("hello", value)
