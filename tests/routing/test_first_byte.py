"""The first byte is the body's: what an engine sends before it decides nothing."""

from __future__ import annotations

import pytest

from fd_router.capacity.breaker import Breaker, Circuit, TripLimits
from tests.routing.test_pair import STREAMED
from tests.routing.test_single import STREAMING
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, chunk

PINGS = (b"", chunk(b": ping\n\n"))


@pytest.mark.parametrize("ping", PINGS)
async def test_a_stream_whose_instance_dies_in_its_queue_goes_to_another(ping: bytes) -> None:
    rig = Rig()
    client = rig.client()
    first = await rig.ask(client, STREAMING)
    first.receive(STREAM_HEAD + ping)
    await rig.settle()
    assert client.take() == b""
    first.lose(ConnectionResetError("reset by peer"))
    await rig.settle()
    second = rig.backend.opened[1]
    second.receive(STREAM_HEAD + chunk(b"data: 1\n\n") + STREAM_END)
    await rig.settle()
    assert client.take().endswith(chunk(b"data: 1\n\n") + STREAM_END)
    assert rig.failed == [("10.0.0.1:8000", "reset")]
    assert rig.records[0].attempts == 2
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("leg", [0, 1])
@pytest.mark.parametrize("ping", PINGS)
async def test_so_does_one_of_a_pair(leg: int, ping: bytes) -> None:
    rig = PairRig()
    client = rig.client()
    pair = await rig.pair(client, STREAMED)
    pair[leg].receive(STREAM_HEAD + ping)
    pair[leg].lose()
    await rig.settle()
    prefill, decode = rig.reached()
    assert (prefill, decode)[leg] is not pair[leg]
    for one in (prefill, decode):
        one.receive(STREAM_HEAD + chunk(b"data: 1\n\n") + STREAM_END)
    await rig.settle()
    assert client.take().endswith(STREAM_END)
    rig.assert_nothing_is_held()


async def test_a_head_is_no_success_of_a_trial() -> None:
    rig = Rig(1)
    told: list[str] = []
    breaker = Breaker(TripLimits(), lambda signal, _: told.append(signal.value))
    breaker.circuit = Circuit.HALF_OPEN
    rig.instances[0].breaker = breaker
    instance = await rig.ask(rig.client(), STREAMING)
    instance.receive(STREAM_HEAD)
    assert told == []
    instance.receive(chunk(b"data: 1\n\n"))
    assert told == ["succeeded"]


async def test_the_record_tells_the_bodys_first_byte() -> None:
    rig = Rig()
    instance = await rig.ask(rig.client(), STREAMING)
    instance.receive(STREAM_HEAD)
    await rig.pass_time(3.0)
    assert rig.records[0].first_byte_at == 0.0
    instance.receive(chunk(b"data: 1\n\n"))
    assert rig.records[0].first_byte_at == rig.timers.time()


async def test_an_empty_body_is_passed_on_at_its_end() -> None:
    rig = Rig()
    client = rig.client()
    instance = await rig.ask(client, STREAMING)
    instance.receive(STREAM_HEAD)
    instance.receive(STREAM_END)
    await rig.settle()
    assert client.take().endswith(b"\r\n\r\n" + STREAM_END)
    assert not client.is_closing()
    rig.assert_nothing_is_held()
