"""Requests with very large bodies are read in steps, and end like any other."""

from __future__ import annotations

import asyncio

import pytest

from fd_router.http import pace
from fd_router.routing.phase import PREPARING
from tests.support.pair_rig import PairRig
from tests.support.rig import Rig, answer, post

MB = 1 << 20


def prompt(text: bytes) -> bytes:
    return b'{"prompt": "%b", "request_id": "r"}' % text


async def test_it_is_sent_byte_for_byte() -> None:
    rig, body = Rig(), prompt("你好 ".encode() * MB)
    instance = await rig.ask(client := rig.client(), body)
    assert instance.written.endswith(body)
    instance.receive(answer())
    await rig.settle()
    assert b" 200 OK" in client.take()
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("text", [b"\\ud800" + b"a" * (2 * MB), b"\xff" * (2 * MB)])
async def test_what_breaks_the_rules_of_json_goes_on_too(text: bytes) -> None:
    rig = Rig()
    instance = await rig.ask(rig.client(), prompt(text))
    assert instance.written.endswith(prompt(text))
    assert rig.context.in_flight.find("r")
    instance.receive(answer())
    await rig.settle()
    rig.assert_nothing_is_held()


async def test_what_is_no_json_at_all_is_refused() -> None:
    rig = Rig()
    client = rig.client()
    client.receive(post(b'{"prompt": ' + b"a" * (2 * MB)))
    await rig.settle()
    assert client.written.startswith(b"HTTP/1.1 400 ")
    assert any("Failed to unmarshal request JSON" in line for line in rig.log_lines)
    rig.assert_nothing_is_held()


async def test_what_is_too_complex_is_refused() -> None:
    rig = PairRig()
    client = rig.client()
    client.receive(post(b'{"prompt": [' + b"1," * (2 * MB) + b"1]}"))
    await rig.settle()
    assert client.written.startswith(b"HTTP/1.1 413 ")
    assert b"body_too_complex" in client.written
    rig.assert_nothing_is_held()


async def test_a_client_that_leaves_meanwhile() -> None:
    rig = Rig()
    client = rig.client()
    client.receive(post(prompt(b"a" * (2 * MB))))
    (request,) = rig.state.proxied_requests()
    assert request.phase is PREPARING  # type: ignore[attr-defined]
    client.lose()
    await rig.settle()
    assert rig.backend.opened == []
    assert [record.status for record in rig.records] == [499]
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("body", [prompt(b"\\ud800" + b"a" * (2 * MB)), b'{"prompt": [' + b"1," * (2 * MB) + b"1]}"])
@pytest.mark.parametrize("steps", range(1, 6))
async def test_a_client_that_leaves_at_any_step(body: bytes, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SLICE_SECS", 0.0)  # each slice is a step
    rig = Rig()
    client = rig.client()
    client.receive(post(body))
    for _ in range(steps):
        await asyncio.sleep(0)
    client.lose()
    await rig.settle()
    assert len(rig.records) == 1
    rig.assert_nothing_is_held()
