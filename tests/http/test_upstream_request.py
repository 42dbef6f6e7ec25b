"""A request on its way to one instance: over a kept connection, over a new one, or not at all."""

from __future__ import annotations

from fd_router.errors import UpstreamError
from fd_router.http.connection_pool import InstancePool
from fd_router.http.heads import ResponseHead
from fd_router.http.upstream_connection import UpstreamConnection
from fd_router.http.upstream_request import UpstreamRequest
from tests.support.rig import Rig, answer

MESSAGE = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Plain(UpstreamRequest):
    """Writes down what becomes of it."""

    def __init__(self) -> None:
        self._connection: UpstreamConnection | None = None
        self._connecting = None
        self._is_full = False
        self.heard: list[object] = []

    def send(self, pool: InstancePool) -> None:
        self._pool, self._time_limit = pool, 0.0
        self._dispatch()

    def cancel(self) -> None:
        self._cancel()

    def hold_up(self) -> None:
        self._is_full = True

    def _on_connecting(self) -> None:
        self.heard.append("connecting")

    def _on_sending(self) -> bytes:
        self.heard.append("sending")
        return MESSAGE

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        self.heard.append((head.status, body))

    def on_data(self, data: bytes) -> None:
        self.heard.append(data)

    def on_complete(self) -> None:
        self._connection = None
        self.heard.append("complete")

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        self._connection = None
        self.heard.append((error.reason, stale))
        if stale:
            self._replace()

    def on_bug(self, error: Exception) -> None:
        raise error


async def sent(rig: Rig) -> Plain:
    request = Plain()
    request.send(rig.pools.of(rig.instances[0]))
    await rig.settle()
    return request


async def test_over_a_new_connection_and_over_a_kept_one() -> None:
    rig = Rig(1)
    first = await sent(rig)
    (instance,) = rig.backend.opened
    assert instance.take() == MESSAGE
    instance.receive(answer(b"fine"))
    assert first.heard == ["connecting", "sending", (200, b"fine"), "complete"]
    second = await sent(rig)
    instance.receive(answer(b"fine"))
    assert second.heard == ["sending", (200, b"fine"), "complete"]
    assert rig.pools.busy(rig.instances[0].key) == 0


async def test_a_kept_one_that_turns_out_dead_is_replaced() -> None:
    rig = Rig(1)
    await sent(rig)
    rig.backend.opened[0].receive(answer())
    request = await sent(rig)
    rig.backend.opened[0].lose()
    await rig.settle()
    assert request.heard == ["sending", ("reset", True), "connecting", "sending"]
    assert rig.backend.opened[1].written == MESSAGE


async def test_nobody_listens() -> None:
    rig = Rig(1)
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    assert (await sent(rig)).heard == ["connecting", ("refused", False)]


async def test_cancelled_while_connecting_and_while_waiting() -> None:
    rig = Rig(1)
    rig.backend.hanging.add("10.0.0.1")
    request = await sent(rig)
    request.cancel()
    await rig.settle()
    assert request.heard == ["connecting"]
    rig.backend.hanging.clear()
    request = await sent(rig)
    request.cancel()
    await rig.settle()
    assert request.heard == ["connecting", "sending"]
    assert rig.backend.live == []
    assert rig.pools.busy(rig.instances[0].key) == 0


async def test_one_that_is_held_up_before_it_is_connected_is_not_read() -> None:
    rig = Rig(1)
    request = Plain()
    request.hold_up()
    request.send(rig.pools.of(rig.instances[0]))
    await rig.settle()
    (instance,) = rig.backend.opened
    assert instance.paused
