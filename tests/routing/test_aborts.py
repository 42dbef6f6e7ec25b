"""Requests that are called off while they are under way, and those that must be made ready first."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from fd_router.openai.completion import Completion
from fd_router.routing.in_flight import InFlight
from fd_router.routing.request import RoutedRequest
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post

BODY = b'{"prompt": "hello", "request_id": "r-1"}'
STREAMING = b'{"prompt": "hello", "request_id": "r-1", "stream": true}'
EVENT = chunk(b'data: {"a": 1}\n\n')


def under_way(rig: Rig) -> RoutedRequest:
    (found,) = rig.context.in_flight.find("r-1")
    assert isinstance(found, RoutedRequest)
    return found


class TestAborted:
    async def test_before_the_answer_the_client_gets_an_error(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, BODY)
        assert under_way(rig).instances() == (rig.instances[0],)
        under_way(rig).on_aborted()
        await rig.settle()
        head, _, body = client.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 499 ")
        assert json.loads(body)["error"]["code"] == "aborted"
        assert instance.aborted
        assert not client.is_closing()
        assert len(rig.context.in_flight) == 0
        rig.assert_nothing_is_held()

    async def test_between_two_events_of_a_stream_the_client_gets_one_more(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, STREAMING)
        instance.receive(STREAM_HEAD)
        instance.receive(EVENT)
        under_way(rig).on_aborted()
        await rig.settle()
        rest = client.take().partition(EVENT)[2]
        assert b'"code":"aborted"' in rest
        assert rest.endswith(b"\n\n\r\n" + STREAM_END)
        assert instance.aborted
        assert not client.is_closing()
        rig.assert_nothing_is_held()

    @pytest.mark.parametrize("part", [EVENT[:-3], chunk(b"data: half an event\n")])
    async def test_in_the_middle_of_an_event_the_stream_is_cut_off(self, part: bytes) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, STREAMING)
        instance.receive(STREAM_HEAD + part)
        under_way(rig).on_aborted()
        await rig.settle()
        assert client.written.endswith(part)
        assert client.is_closing()
        rig.assert_nothing_is_held()

    async def test_within_an_event_the_stream_is_cut_off(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, STREAMING)
        instance.receive(STREAM_HEAD + chunk(b'data: {"choices": [{"delta": {"content": "' + b"x" * 64))
        under_way(rig).on_aborted()
        await rig.settle()
        assert client.written.count(b"HTTP/1.1 ") == 1  # no second head
        assert client.is_closing()
        rig.assert_nothing_is_held()

    async def test_after_its_end_nothing_happens(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, BODY)
        request = under_way(rig)
        instance.receive(answer())
        await rig.settle()
        client.take()
        request.on_aborted()
        await rig.settle()
        assert client.take() == b""
        assert len(rig.context.in_flight) == 0
        assert repr(request) == "<SingleInstanceRequest POST /v1/completions ended>"


class TestPreparing:
    async def test_a_request_is_made_ready_before_its_selection(self) -> None:
        rig = Rig()
        ready = asyncio.Event()

        async def wait() -> None:
            await ready.wait()

        rig.change(prepare=lambda completion: wait())
        client = rig.client()
        client.receive(post(BODY))
        await rig.settle()
        assert under_way(rig).instances() == ()
        assert rig.counts() == [(0, 0), (0, 0)]
        ready.set()
        await rig.settle()
        rig.backend.opened[0].receive(answer(b"fine"))
        await rig.settle()
        assert client.written.endswith(b"fine")
        rig.assert_nothing_is_held()

    async def test_what_is_ready_at_once_waits_for_nothing(self) -> None:
        rig = Rig()
        seen: list[str] = []

        def note(completion: Completion) -> None:
            seen.append(completion.prompt)

        rig.change(prepare=note)
        await rig.ask(rig.client(), BODY)
        assert seen == ["hello"]

    @pytest.mark.parametrize("aborted", [True, False])
    async def test_a_request_that_ends_meanwhile_is_never_sent(self, aborted: bool) -> None:
        rig = Rig()
        ready = asyncio.Event()

        async def wait() -> None:
            await ready.wait()

        rig.change(prepare=lambda completion: wait())
        client = rig.client()
        client.receive(post(BODY))
        await rig.settle()
        if aborted:
            under_way(rig).on_aborted()
        else:
            client.lose()
        ready.set()
        await rig.settle()
        assert rig.backend.opened == []
        rig.assert_nothing_is_held()


def test_in_flight() -> None:
    class Request:
        def instances(self) -> tuple[()]:
            return ()

        def on_abort_asked(self) -> None:
            pass

        def on_aborted(self) -> None:
            raise AssertionError

    in_flight = InFlight()
    one, two, three = Request(), Request(), Request()
    in_flight.add("a", one)
    in_flight.add("a", two)
    in_flight.add("b", three)
    assert in_flight.find("a") == (one, two)
    assert in_flight.find("c") == ()
    assert in_flight.all() == (one, two, three)
    in_flight.discard("a", one)
    in_flight.discard("a", one)
    in_flight.discard("b", one)
    in_flight.discard("c", one)
    assert in_flight.all() == (two, three)
    in_flight.discard("a", two)
    assert len(in_flight) == 1


def test_many_with_one_id_come_and_go_in_any_order() -> None:
    in_flight, rng = InFlight(), random.Random(3)
    requests = [object() for _ in range(200)]
    present: list[object] = []
    for _ in range(4000):
        request = rng.choice(requests)
        if request in present:
            present.remove(request)
            in_flight.discard("a", request)  # type: ignore[arg-type]
        else:
            present.append(request)
            in_flight.add("a", request)  # type: ignore[arg-type]
        assert in_flight.find("a") == tuple(present)
        assert len(in_flight) == len(present)
