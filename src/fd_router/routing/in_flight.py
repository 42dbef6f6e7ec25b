"""The requests under way, by the id that they came with, or got here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from fd_router.instances.instance import Instance

_ABSENT = object()


class Abortable(Protocol):
    """A request under way."""

    @property
    def request_id(self) -> str:
        """The id that it is found by: its client's or the router's own; the one in the log."""

    @property
    def engine_id(self) -> str:
        """The id that its instances know it by now; "" when they know none."""

    def instances(self) -> tuple[Instance, ...]:
        """Return where it runs; the one whose word counts last."""

    def on_abort_asked(self) -> None:
        """Its instances are told to give it up."""

    def on_aborted(self) -> None:
        """Its instances gave it up: tell the client, unless it has been told by the answer's end."""


class InFlight:
    """Finds requests by id. Two with one id are both found: ids are the clients' to choose.

    ``everyone`` returns all that are under way, also those that no instance knows by an id.
    """

    def __init__(self, everyone: Callable[[], Iterable[Abortable]] = tuple) -> None:
        self._everyone = everyone
        self._requests: dict[str, Abortable] = {}
        self._duplicates: dict[str, OrderedDict[Abortable, None]] = {}  # those whose id was taken when they began

    def add(self, request_id: str, request: Abortable) -> None:
        """A request begins."""
        if self._requests.setdefault(request_id, request) is not request:
            self._duplicates.setdefault(request_id, OrderedDict())[request] = None

    def discard(self, request_id: str, request: Abortable) -> None:
        """A request is over."""
        duplicates = self._duplicates.get(request_id)
        if self._requests.get(request_id) is not request:
            if duplicates is None or duplicates.pop(request, _ABSENT) is _ABSENT:
                return
        elif duplicates is None:  # nearly always
            del self._requests[request_id]
            return
        else:
            self._requests[request_id] = duplicates.popitem(last=False)[0]
        if not duplicates:
            del self._duplicates[request_id]

    def find(self, request_id: str) -> tuple[Abortable, ...]:
        """Return the requests with this id."""
        first = self._requests.get(request_id)
        return () if first is None else (first, *self._duplicates.get(request_id, ()))

    def find_each(self, ids: Iterable[str]) -> dict[str, tuple[Abortable, ...]]:
        """Return the requests with each of these ids, also those that only the log calls so, not their instances."""
        found = {request_id: self.find(request_id) for request_id in ids}
        missing = frozenset(request_id for request_id, those in found.items() if not those)
        for one in self._everyone() if missing else ():
            if one.request_id in missing:
                found[one.request_id] += (one,)
        return found

    def all(self) -> tuple[Abortable, ...]:
        """Return all requests, those with an id first."""
        known = [request for request_id in self._requests for request in self.find(request_id)]
        return tuple(dict.fromkeys([*known, *self._everyone()]))

    def __len__(self) -> int:
        return len(self._requests) + sum(map(len, self._duplicates.values()))
