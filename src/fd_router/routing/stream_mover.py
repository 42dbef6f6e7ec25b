"""The mover of streams: those of an instance that is to be left go on elsewhere before it breaks them off.

Left are instances that drain, once their deadline is over, and those against which something speaks, as far as their
streams are silent: nobody waits for a time limit then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Final, Protocol

from fd_router.bugs import tell_of_bug
from fd_router.http.pace import Pace
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.moments import until_next
from fd_router.routing.continuation.contracts import Move
from fd_router.routing.continuation.stream_reading import StreamReading
from fd_router.telemetry.contracts import Log

INTERVAL_SECS: Final = 0.25
"""How often the instances are looked at."""

SILENT_SECS: Final = {"dead": 1.0, "ejected": 2.0, "stuck": 2.0}
"""Why an instance is left, and how long a stream must have been silent there: what still delivers isn't cut."""


MOST_LATER: Final = 4
"""Streams that are tried in one look although there is no room for them; others, with another model or engine, may find
some."""


class Movable(Protocol):
    """A request under way."""

    def instances(self) -> tuple[Instance, ...]:
        """Return where it runs; the one whose answer it is last."""

    def read_ahead(self, key: str, *, silent_since: float = ...) -> StreamReading | None:
        """Begin to read a stream that is to be moved; None: it can't be, or there is little to read."""

    def move_stream(
        self, key: str, why: str, *, silent_since: float = ..., reading: StreamReading | None = ...
    ) -> Move:
        """Have another instance go on, if the one with ``key`` sends its stream, and nothing of it ``silent_since``."""


class _Leaving:
    """An instance that is left: the requests that stay, since nobody can go on with them, and those that were read."""

    __slots__ = ("instance", "is_told", "later", "readings", "stays", "why")

    def __init__(self, instance: Instance, why: str) -> None:
        self.instance = instance
        self.why = why
        self.stays: set[Movable] = set()
        self.later: set[Movable] = set()  # for which there was no room: the others' turn is before theirs
        self.readings: dict[Movable, StreamReading] = {}  # of long streams for which there was no room
        self.is_told = False

    def in_turn(self, here: Sequence[Movable]) -> list[Movable]:
        """Return those that are to be tried, in their order."""
        left = [each for each in here if each not in self.stays]
        if self.later.issuperset(left):
            self.later.clear()
        return sorted(left, key=self.later.__contains__)

    def is_like(self, other: _Leaving) -> bool:
        """Whether it is the same instance, left for the same reason."""
        return self.instance is other.instance and self.why == other.why

    def keep(self, here: Container[Movable]) -> None:
        """Keep what is known of those that are still here."""
        self.stays = {each for each in self.stays if each in here}
        self.later = {each for each in self.later if each in here}
        for request in [each for each in self.readings if each not in here]:
            self.readings.pop(request).close()


class StreamMover:
    """Looks at all instances, a few times a second, and at requests only where one of them is to be left."""

    def __init__(
        self,
        requests: Callable[[], Iterable[Movable]],
        instances: Callable[[], Sequence[Instance]],
        *,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        """``requests``: those under way. ``instances``: members, and those removed where requests still run."""
        self._requests = requests
        self._instances = instances
        self._clock = clock
        self._log = log
        self._deadlines: dict[str, tuple[Instance, float]] = {}  # by key, of those that drain
        self._leaving: dict[str, _Leaving] = {}  # by key

    # what the endpoint of the admin calls

    def drain_by(self, instance: Instance, seconds: float) -> None:
        """Have the streams leave ``instance``, which drains, that are still there in so many seconds."""
        self._deadlines[instance.key] = (instance, self._clock() + seconds)
        self._stop_leaving(instance.key)  # who was told to stay may go then

    def seconds_left(self, key: str) -> float | None:
        """Return how long the streams of the instance with ``key`` may stay; None: no deadline was set."""
        found = self._deadlines.get(key)
        return max(0.0, found[1] - self._clock()) if found is not None else None

    # what the registry calls

    def on_change(self, change: Change) -> None:
        """Forget the deadline of an instance that no longer drains, or that was away: it is another one, perhaps."""
        if change.kind is ChangeKind.UNDRAINED or change.kind is ChangeKind.ADDED:
            self._deadlines.pop(change.instance.key, None)
            self._stop_leaving(change.instance.key)

    # on its own

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(until_next(INTERVAL_SECS, asyncio.get_running_loop().time()))
            await self.tick()

    async def tick(self) -> None:
        """Look at all instances once."""
        pace, wanted = Pace(), self._to_be_left()
        for key, each in tuple(self._leaving.items()):
            if key not in wanted or not wanted[key].is_like(each):
                self._stop_leaving(key)
        for key, leaving in wanted.items():
            await self._empty(self._leaving.setdefault(key, leaving), pace)

    def _stop_leaving(self, key: str) -> None:
        if (leaving := self._leaving.pop(key, None)) is not None:
            leaving.keep(())

    def _to_be_left(self) -> dict[str, _Leaving]:
        """Return the instances that something runs at and that are to be left, by key."""
        now, instances = self._clock(), self._instances()
        if self._deadlines:
            here = {each.key: each for each in instances}
            self._deadlines = {key: found for key, found in self._deadlines.items() if here.get(key) is found[0]}
        found = {each.key: _Leaving(each, why) for each in instances if each.running and (why := _reason(each))}
        drained = [each for each, at in self._deadlines.values() if at <= now and each.running]
        return {**found, **{each.key: _Leaving(each, "drained") for each in drained}}

    async def _empty(self, leaving: _Leaving, pace: Pace) -> None:
        """Move what can be moved."""
        instance = leaving.instance
        here = [each for each in self._requests() if _is_at(each, instance)]
        leaving.keep(set(here))
        moved = without_room = 0
        for request in leaving.in_turn(here):
            if without_room == MOST_LATER:
                break
            if not _is_at(request, instance):
                continue
            try:
                move = await self._move(leaving, request, pace)
            except Exception as error:  # noqa: BLE001  a bug with one must not keep the others waiting
                tell_of_bug("a stream could not be moved", error)
                move = Move.STAYS
            if move is None:
                return
            if move is Move.MOVED:
                moved += 1
            elif move is Move.STAYS:
                leaving.stays.add(request)
            elif move is Move.LATER:
                leaving.later.add(request)
                without_room += 1
            await pace.breathe()
        self._tell(leaving, moved, here)

    async def _move(self, leaving: _Leaving, request: Movable, pace: Pace) -> Move | None:
        """Move one stream, if it can be. Returns None if its instance isn't to be left any more, or not yet."""
        key, why = leaving.instance.key, leaving.why
        reading = await self._read(leaving, request, pace)
        if self._leaving.get(key) is not leaving:
            return None
        return request.move_stream(key, why, silent_since=self._silent_since(why), reading=reading)

    async def _read(self, leaving: _Leaving, request: Movable, pace: Pace) -> StreamReading | None:
        """Read what a long stream has so far; what comes of it meanwhile is little."""
        reading = leaving.readings.get(request)
        if reading is None:
            reading = request.read_ahead(leaving.instance.key, silent_since=self._silent_since(leaving.why))
        if reading is not None:
            leaving.readings[request] = reading
            for _ in reading.read():
                await pace.breathe()
        return reading

    def _silent_since(self, why: str) -> float:
        silence = SILENT_SECS.get(why)
        return self._clock() - silence if silence is not None else float("inf")

    def _tell(self, leaving: _Leaving, moved: int, here: Sequence[Movable]) -> None:
        url = leaving.instance.url
        if leaving.why != "drained":
            if moved:
                self._log.warn(f"{url} is {leaving.why}: {moved} silent streams went on elsewhere")
        elif moved or not leaving.is_told:
            leaving.is_told = True
            self._log.info(
                f"Server {url} drains, and its deadline is over: {moved} streams went on elsewhere, "
                f"{len(here) - moved} requests stay to their end or until there is room"
            )

    def __repr__(self) -> str:
        return f"<StreamMover {len(self._deadlines)} deadlines, {len(self._leaving)} instances left>"


def _reason(instance: Instance) -> str:
    """Return what speaks against an instance, "" for nothing."""
    if instance.health is Health.UNHEALTHY:
        return "dead"
    if instance.is_ejected:
        return "ejected"
    return "stuck" if instance.is_stuck else ""


def _is_at(request: Movable, instance: Instance) -> bool:
    """Return whether the answer to a request is the instance's."""
    instances = request.instances()
    return bool(instances) and instances[-1] is instance
