"""The requests under way, by the id that their instances know them by."""

from __future__ import annotations

from typing import Protocol

from fd_router.instances.instance import Instance


class Abortable(Protocol):
    """A request under way."""

    def instances(self) -> tuple[Instance, ...]:
        """Return where it runs; the one whose word counts last."""

    def on_aborted(self) -> None:
        """Its instances gave it up: tell the client, unless it has been told by the answer's end."""


class InFlight:
    """Finds requests by id. Two with one id are both found: ids are the clients' to choose."""

    def __init__(self) -> None:
        self._requests: dict[str, list[Abortable]] = {}

    def add(self, request_id: str, request: Abortable) -> None:
        """A request begins."""
        self._requests.setdefault(request_id, []).append(request)

    def discard(self, request_id: str, request: Abortable) -> None:
        """A request is over."""
        found = self._requests.get(request_id)
        if found is not None and request in found:
            found.remove(request)
            if not found:
                del self._requests[request_id]

    def find(self, request_id: str) -> tuple[Abortable, ...]:
        """Return the requests with this id."""
        return tuple(self._requests.get(request_id, ()))

    def all(self) -> tuple[Abortable, ...]:
        """Return all requests."""
        return tuple(request for found in self._requests.values() for request in found)

    def __len__(self) -> int:
        return sum(map(len, self._requests.values()))
