"""What a connection that remembers heads is held against: one that has every head parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fd_router.http.upstream_connection import UpstreamConnection
from fd_router.http.upstream_contract import Listener
from tests.support.fake_upstream import Line


class PlainConnection(UpstreamConnection):
    """Parses every head, also one that it has just seen."""

    __slots__ = ()

    def _receive_first(self, data: bytes, listener: Listener) -> bool:
        self._known = self._reader._known = None
        return super()._receive_first(data, listener)


def conversation(
    kind: type[UpstreamConnection], answers: Iterable[bytes], parts_of: Callable[[bytes], Iterable[bytes]]
) -> list[object]:
    """Ask once for each answer, which comes in parts, and return all that was told."""
    line = Line(kind)
    told: list[object] = []
    for data in answers:
        if not line.connection.is_idle:
            break
        listener = line.send()
        for part in parts_of(data):
            if part and line.connection.transport is not None:
                line.receive(part)
                line.loop.run_soon()
        told += [[(x.status, x.forward, x.framing, x.is_delimited) for x in listener.heads], listener.body]
        told.append(listener.ending)
    line.transport.lose()
    return [*told, line.owner.events, line.transport.aborted, line.connection.is_reused]
