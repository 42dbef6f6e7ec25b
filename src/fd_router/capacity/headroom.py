"""Which of the available instances have room for one more request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter

from fd_router.instances.instance import Instance

_url = attrgetter("url")

Available = Callable[[str], tuple[Instance, ...]]
"""role → the instances that may be chosen, ordered by URL; the same object until they change."""


class Headroom:
    """Knows the instances that are at their limit, and gives the others.

    An instance tells when it reaches its limit and when it leaves it, so nothing is looked through for a request:
    without full instances ``open`` gives what is available as it is; with some, one place of a list changes each time.
    """

    def __init__(self, available: Available) -> None:
        self.full: set[str] = set()
        """Keys of the instances at their limit. Read only."""
        self._available = available
        self._views: dict[str, _View] = {}
        self._listeners: list[Callable[[], None]] = []

    def open(self, role: str) -> Sequence[Instance]:
        """Return the instances of ``role`` that may be chosen now and have room, ordered by URL."""
        fleet = self._available(role)
        if not self.full:
            return fleet
        view = self._views.get(role)
        if view is None or view.fleet is not fleet:
            view = self._views[role] = _View(fleet, self.full)
        return view.open()

    def is_full(self, role: str) -> bool:
        """Tell whether there are instances of ``role`` to choose from, if only they had room."""
        return bool(self._available(role)) and not self.open(role)

    def set_limit(self, instance: Instance, limit: int) -> None:
        """Let ``instance`` have ``limit`` requests at a time from now on (0: any number); none is taken away."""
        if limit == instance.limit:
            return
        instance.limit = limit
        instance.on_limit = self._on_limit
        is_full = 0 < limit <= instance.running
        if is_full is not (instance.key in self.full):
            self._on_limit(instance, is_full)

    def on_capacity(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever an instance that was full has room again, or may have more than before."""
        self._listeners.append(listener)

    def tell(self) -> None:
        """There may be more room, for other reasons than that a request ended."""
        for listener in self._listeners:
            listener()

    def _on_limit(self, instance: Instance, is_full: bool) -> None:
        view = self._views.get(instance.registration.role)
        if is_full:
            self.full.add(instance.key)
            if view is not None:
                view.leave(instance)
        else:
            self.full.discard(instance.key)
            if view is not None:
                view.enter(instance)
            self.tell()

    def __repr__(self) -> str:
        return f"<Headroom {len(self.full)} full>"


class _View:
    """The instances of one fleet that have room, as a list that is changed and a tuple that is handed out.

    Policies keep what they work out for a tuple as long as they are handed the same one.
    """

    __slots__ = ("_list", "_tuple", "fleet")

    def __init__(self, fleet: tuple[Instance, ...], full: set[str]) -> None:
        self.fleet = fleet
        self._list = [instance for instance in fleet if instance.key not in full]
        self._tuple: tuple[Instance, ...] | None = None

    def open(self) -> tuple[Instance, ...]:
        if self._tuple is None:
            self._tuple = tuple(self._list)
        return self._tuple

    def leave(self, instance: Instance) -> None:
        place = bisect_left(self._list, instance.url, key=_url)
        if self._list[place : place + 1] == [instance]:
            del self._list[place]
            self._tuple = None

    def enter(self, instance: Instance) -> None:
        at = bisect_left(self.fleet, instance.url, key=_url)
        place = bisect_left(self._list, instance.url, key=_url)
        if self.fleet[at : at + 1] == (instance,) and self._list[place : place + 1] != [instance]:
            self._list.insert(place, instance)
            self._tuple = None
