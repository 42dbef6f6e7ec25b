from __future__ import annotations

import asyncio
import contextlib

import pytest

from fd_router.errors import UpstreamError
from fd_router.http import fetch as fetch_module
from fd_router.http.client_request import ClientRequest
from fd_router.http.fetch import fetch
from tests.support.fake_transport import FakeTransport
from tests.support.no_collector import leaves_nothing
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk


async def begin(rig: Rig, **options: float) -> tuple[asyncio.Task[tuple[int, bytes]], FakeTransport]:
    pool = rig.pools.of(rig.instances[0])
    task = asyncio.ensure_future(fetch(pool, "GET", "/health", **options))
    await rig.settle()
    return task, next(x for x in rig.backend.live if x.writes)


async def test_the_request_and_its_answer() -> None:
    rig = Rig(1)
    task, instance = await begin(rig)
    assert instance.take() == (
        b"GET /health HTTP/1.1\r\nhost: 10.0.0.1:8000\r\naccept: */*\r\ncontent-type: application/json\r\n"
        b"content-length: 0\r\n\r\n"
    )
    instance.receive(answer(b"fine")[:-2])
    instance.receive(b"ne")
    assert await task == (200, b"fine")
    rig.assert_nothing_is_held()
    again, same = await begin(rig)
    assert same is instance
    same.receive(answer(b"", "503 Service Unavailable"))
    assert await again == (503, b"")


async def test_a_chunked_answer_is_put_together() -> None:
    rig = Rig(1)
    task, instance = await begin(rig)
    instance.receive(STREAM_HEAD + chunk(b"one") + b"3\r")
    instance.receive(b"\ntwo\r\n" + STREAM_END)
    assert await task == (200, b"onetwo")


async def test_an_answer_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "MAX_BODY", 10)
    for rest in (b"", chunk(b"y") + STREAM_END):
        rig = Rig(1)
        task, instance = await begin(rig)
        instance.receive(STREAM_HEAD + chunk(b"x" * 11))
        instance.receive(rest)
        with pytest.raises(UpstreamError, match="more than 10 bytes"):
            await task
        await rig.settle()
        rig.assert_nothing_is_held()


async def test_failures() -> None:
    rig = Rig(1)
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    with pytest.raises(UpstreamError) as refused:
        await fetch(rig.pools.of(rig.instances[0]), "GET", "/health")
    assert refused.value.reason == "refused"
    task, instance = await begin(rig)
    instance.lose()
    with pytest.raises(UpstreamError) as reset:
        await task
    assert reset.value.reason == "reset"


async def test_a_stale_connection_is_replaced() -> None:
    rig = Rig(1)
    task, instance = await begin(rig)
    instance.receive(answer())
    await task
    instance.take()
    task, instance = await begin(rig)
    instance.lose()
    await rig.settle()
    rig.backend.live[0].receive(answer(b"again"))
    assert await task == (200, b"again")


@pytest.mark.parametrize("hanging", [True, False])
async def test_its_time_limit(hanging: bool) -> None:
    rig = Rig(1)
    if hanging:
        rig.backend.hanging.add("10.0.0.1")
    with pytest.raises(UpstreamError) as late:
        await fetch(rig.pools.of(rig.instances[0]), "GET", "/health", time_limit=0.01)
    assert late.value.reason == "first_byte_timeout"
    assert "no answer to GET /health within 0.01 s" in str(late.value)
    await rig.settle()
    assert not rig.backend.live
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("failure", [ConnectionRefusedError, TimeoutError, OSError])
async def test_a_failure_leaves_nothing_to_the_collector(failure: type[OSError]) -> None:
    """Dead instances are probed for as long as they are registered."""
    rig = Rig(1)
    rig.backend.failures["10.0.0.1"] = [failure()]
    with leaves_nothing(UpstreamError, ClientRequest):
        with contextlib.suppress(UpstreamError):
            await fetch(rig.pools.of(rig.instances[0]), "GET", "/health")
        await rig.settle()


@pytest.mark.parametrize("fine", [answer(b"fine"), STREAM_HEAD + chunk(b"fine") + STREAM_END])
async def test_an_answer_leaves_nothing_to_the_collector(fine: bytes) -> None:
    rig = Rig(1)
    with leaves_nothing(ClientRequest):
        task, instance = await begin(rig)
        instance.receive(fine)
        await task
        del task
