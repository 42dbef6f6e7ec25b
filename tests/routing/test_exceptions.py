"""Whatever raises on a request's way: its client is told at once, and everything is given back."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.routing.continuation.test_single_stream import StreamRig
from tests.routing.test_pair import STREAMED
from tests.routing.test_single import STREAMING
from tests.support.fake_transport import FakeTransport
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post

pytestmark = pytest.mark.unmeasured  # thousands of times what others cover

OURS = (
    "fd_router/http/",
    "fd_router/routing/",
    "fd_router/scheduling/",
    "fd_router/engines/",
    "fd_router/openai/",
    "fd_router/telemetry/",
)
"""Whose calls fail in turn: all that is called from the first byte of a request until its answer's last is sent."""

MOST_CALLS = 1500


class InjectedError(Exception):
    """What a call raises that works otherwise."""


class Injector:
    """Counts the calls that the code in question makes, and has one of them raise.

    What the loop calls doesn't fail before it has begun: its steps do.
    """

    def __init__(self, at: int) -> None:
        self.where = ""
        self._at = at
        self._seen: set[object] = set()  # the ways to the calls there were: a loop's are one

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not _is_ours(frame) or (way := _way_to(frame)) in self._seen:
            return
        self._seen.add(way)
        if len(self._seen) == self._at:
            self.where = frame.f_code.co_qualname
            raise InjectedError(self.where)


def _way_to(frame: FrameType) -> object:
    way: list[object] = [frame.f_code]
    by = frame.f_back
    while by is not None and "/fd_router/" in by.f_code.co_filename:
        way += (by.f_code, by.f_lineno)
        by = by.f_back
    return tuple(way)


def _is_ours(frame: FrameType) -> bool:
    by = frame.f_back
    return (
        any(part in frame.f_code.co_filename for part in OURS)
        and not frame.f_code.co_flags & inspect.CO_GENERATOR  # which is also called to end
        and by is not None
        and "/fd_router/" in by.f_code.co_filename
    )


def receive(rig: Rig, transport: FakeTransport, data: bytes) -> None:
    """Have ``transport`` receive ``data``; do as loops do with what that raises: tell of it, and close."""
    try:
        transport.receive(data)
    except Exception as error:  # noqa: BLE001  also what the parser makes of it
        rig.loop.call_exception_handler({"exception": error})
        transport.abort()


def lose(rig: Rig, transport: FakeTransport) -> None:
    """Have the other end close its connection."""
    try:
        transport.lose()
    except Exception as error:  # noqa: BLE001  as above
        rig.loop.call_exception_handler({"exception": error})


async def single(injector: Injector) -> Rig:
    rig = Rig()
    client = rig.client()
    sys.setprofile(injector)
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    receive(rig, client, post(STREAMING))
    await rig.settle()
    for transport in rig.backend.opened:
        receive(rig, transport, STREAM_HEAD + chunk(b"data: 1\n\n"))
        receive(rig, transport, chunk(b"data: 2\n\n") + STREAM_END)
    await rig.settle()
    return rig


async def whole(injector: Injector) -> Rig:
    rig = Rig()
    client = rig.client()
    sys.setprofile(injector)
    receive(rig, client, post())
    await rig.settle()
    for transport in rig.backend.opened:
        receive(rig, transport, answer(b"no", "503 No"))
    await rig.settle()
    for transport in rig.backend.opened[1:]:
        receive(rig, transport, answer())
    await rig.settle()
    return rig


async def pair(injector: Injector) -> Rig:
    rig = PairRig()
    client = rig.client()
    sys.setprofile(injector)
    rig.backend.failures["10.0.0.101"] = [ConnectionRefusedError()]
    receive(rig, client, post(STREAMED))
    await rig.settle()
    for transport in tuple(rig.backend.live):
        receive(rig, transport, STREAM_HEAD + chunk(b"data: 1\n\n"))
    for transport in tuple(rig.backend.live):
        receive(rig, transport, chunk(b"data: 2\n\n") + STREAM_END)
    await rig.settle()
    return rig


async def left(injector: Injector) -> Rig:
    """Its client speaks HTTP/1.0, and leaves in the middle."""
    rig = Rig()
    client = rig.client()
    sys.setprofile(injector)
    receive(rig, client, post(STREAMING, version="1.0"))
    await rig.settle()
    for transport in rig.backend.opened:
        receive(rig, transport, STREAM_HEAD + chunk(b"data: 1\n\n"))
    await rig.settle()
    if not client.is_closing():
        lose(rig, client)
    await rig.settle()
    return rig


async def goes_on(injector: Injector) -> Rig:
    """Its stream breaks off, and goes on at another instance."""
    rig = StreamRig()
    instance = await rig.begin(rig.client(), 500)
    sys.setprofile(injector)
    lose(rig, instance)
    await rig.settle()
    for transport in rig.backend.live:
        if not transport.protocol.is_idle:  # type: ignore[union-attr]
            body = transport.written.rpartition(b"\r\n\r\n")[2]
            receive(rig, transport, STREAM_HEAD + rig.engine.answer(body, chat=False))
    await rig.settle()
    return rig


GIVE_BACK = frozenset((
    "Reservation.release", "RequestLife._release", "SingleInstanceRequest._release_all", "PairRequest._release_all",
    "SingleInstanceRequest._end_attempt", "SingleInstanceRequest._leave_instance", "PairRequest._give_back",
    "PairRequest._end_leg", "RoutedRequest._leave", "InFlight.discard", "SingleLeg.cancel",
    "UpstreamRequest._cancel", "UpstreamConnection.cancel", "ClosableConnection._forget_request",
    "ServerConnection._tell_of_end",
))  # fmt: skip
"""The calls by which something is given back: where one of them fails at once, it is lost; counts are audited."""


@pytest.mark.parametrize("scene", [single, whole, left, pair, goes_on])
async def test_each_call_in_turn(scene: Callable[[Injector], Any]) -> None:
    """The client is told, and no more is lost than what the call that fails was to give back."""
    for at in range(1, MOST_CALLS):
        injector = Injector(at)
        try:
            rig: Rig = await scene(injector)
        finally:
            sys.setprofile(None)
        if not (where := injector.where):
            break
        (client,) = rig.clients
        assert client.written.startswith(b"HTTP/1.1 ") or client.is_closing(), f"no answer: {where}"
        assert client.is_closing() or client.protocol.is_idle, f"answering still: {where}"  # type: ignore[union-attr]
        assert rig.state.proxied_requests() == [], where
        if where not in GIVE_BACK:
            assert rig.state.budget.held == 0, f"bytes of bodies: {where}"
            busy = [x for x in rig.backend.live if not x.protocol.is_idle]  # type: ignore[union-attr]
            assert busy == [], f"connections: {where}"
            assert rig.counts() == [(0, 0)] * len(rig.instances), f"counts: {where}"
            assert len(rig.context.in_flight) == 0, where
    assert 150 < at < MOST_CALLS - 1
