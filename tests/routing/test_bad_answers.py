"""Answers with a status of success that are none: errors in a stream, and answers that the engine aborted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.http.dechunk import dechunked
from tests.support.fake_transport import FakeTransport
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk

STREAMED = b'{"prompt": "x", "stream": true}'
JSON = "Content-Type: application/json\r\n"
ERROR = b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n'
DONE = chunk(b"data: [DONE]\n\n") + STREAM_END


class Breaker:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def answered(self, status: int) -> None:
        self.told.append(status)

    def refused(self, status: int, client: str) -> None:
        self.told.append((status, client))

    def failed(self, reason: str, *, begun: bool = False) -> None:
        self.told.append((reason, begun))


def token(text: str = "t", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def whole(finish: str, text: str = "half") -> bytes:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice]}).encode()


def watched(rig: Rig) -> list[Breaker]:
    breakers = [Breaker() for _ in rig.instances]
    for instance, breaker in zip(rig.instances, breakers, strict=True):
        instance.breaker = breaker
    return breakers


@pytest.fixture
async def rig() -> Rig:
    return Rig(3)


async def other(rig: Rig, *before: FakeTransport) -> FakeTransport:
    """Return the connection on which the request went to another instance."""
    await rig.settle()
    (found,) = (x for x in rig.backend.live if x not in before and not x.protocol.is_idle)  # type: ignore[union-attr]
    return found


class TestFirst:
    """The answer begins with it."""

    @pytest.mark.parametrize(
        "first",
        [
            ERROR,
            token("", "abort"),
            b": ping\n\n: ping\n\n" + ERROR,
            b'id: 1\nevent: error\ndata: {"message": "EngineCore died"}\n\n',
        ],
    )
    async def test_another_instance_is_asked_once(self, rig: Rig, first: bytes) -> None:
        breakers = watched(rig)
        client = rig.client()
        reached = await rig.ask(client, STREAMED)
        reached.receive(STREAM_HEAD + chunk(first) + DONE)
        second = await other(rig, reached)
        assert not client.written
        second.receive(STREAM_HEAD + chunk(token()) + DONE)
        await rig.settle()
        assert client.take().endswith(chunk(token()) + DONE)
        record = rig.records[0]
        assert [(one.outcome, one.status) for one in record.failed_attempts] == [("error_answer", 500)]
        assert (record.outcome, record.flaw) == ("completed", "")
        assert [breaker.told for breaker in breakers] == [[("error_answer", False)], [200], []]
        rig.assert_nothing_is_held()

    @pytest.mark.parametrize("cut", [1, 5, 6, 8, 13, 20, len(ERROR) - 1])
    async def test_also_when_the_event_comes_in_two_chunks(self, rig: Rig, cut: int) -> None:
        client = rig.client()
        reached = await rig.ask(client, STREAMED)
        for data in (STREAM_HEAD, chunk(ERROR[:cut]), chunk(ERROR[cut:]) + DONE):
            reached.receive(data)
        second = await other(rig, reached)
        assert not client.written
        second.receive(STREAM_HEAD + chunk(token()[:cut]))
        second.receive(chunk(token()[cut:]) + DONE)
        await rig.settle()
        body = client.take().partition(b"\r\n\r\n")[2]
        assert dechunked(body) == token() + dechunked(DONE)
        assert rig.records[0].outcome == "completed"
        rig.assert_nothing_is_held()

    async def test_not_a_second_time(self, rig: Rig) -> None:
        client = rig.client()
        first = await rig.ask(client, STREAMED)
        first.receive(STREAM_HEAD + chunk(ERROR) + DONE)
        second = await other(rig, first)
        second.receive(STREAM_HEAD + chunk(ERROR) + DONE)
        await rig.settle()
        assert client.take().endswith(chunk(ERROR) + DONE), "the client reads the last one"
        assert (rig.records[0].outcome, rig.records[0].flaw) == ("failed", "The stream has an error in it")
        rig.assert_nothing_is_held()

    async def test_an_error_that_is_the_clients_stays_the_clients(self, rig: Rig) -> None:
        client = rig.client()
        event = b'data: {"error": {"message": "too long", "code": 400}}\n\n'
        (await rig.ask(client, STREAMED)).receive(STREAM_HEAD + chunk(event) + DONE)
        await rig.settle()
        assert client.take().endswith(chunk(event) + DONE)

    async def test_a_whole_answer_that_was_aborted_goes_elsewhere(self, rig: Rig) -> None:
        client = rig.client()
        first = await rig.ask(client)
        first.receive(answer(whole("abort"), headers=JSON))
        (await other(rig, first)).receive(answer(whole("stop"), headers=JSON))
        await rig.settle()
        assert client.take().endswith(whole("stop"))

    @pytest.mark.parametrize("step", [1, 30, 200])
    async def test_also_when_it_comes_in_pieces(self, rig: Rig, step: int) -> None:
        client = rig.client()
        first = await rig.ask(client)
        first.receive(answer(whole("abort", "x" * 300), headers=JSON), step)
        await rig.settle()
        assert not client.written
        (await other(rig, first)).receive(answer(whole("stop", "y" * 300), headers=JSON), step)
        await rig.settle()
        written = client.take()
        assert written.endswith(whole("stop", "y" * 300))
        assert written.count(b"HTTP/1.1 200") == 1
        assert rig.records[0].bytes_out == len(whole("stop", "y" * 300))
        rig.assert_nothing_is_held()

    async def test_an_abort_that_was_asked_for_is_an_answer(self, rig: Rig) -> None:
        client = rig.client()
        reached = await rig.ask(client, b'{"prompt": "x", "request_id": "mine"}')
        (request,) = rig.context.in_flight.find("mine")
        request.on_abort_asked()
        reached.receive(answer(whole("abort"), headers=JSON))
        await rig.settle()
        assert client.take().endswith(whole("abort"))
        assert rig.records[0].outcome == "completed"


class TestHeld:
    """A whole answer is kept until it is whole."""

    async def test_one_that_breaks_off_is_an_error_and_no_half_answer(self, rig: Rig) -> None:
        client = rig.client()
        reached = await rig.ask(client)
        reached.receive(answer(whole("stop"), headers=JSON)[:-5])
        await rig.settle()
        assert not client.written
        reached.lose()
        await rig.settle()
        assert client.take().startswith(b"HTTP/1.1 502 ")
        rig.assert_nothing_is_held()

    async def test_what_is_no_completion_is_not(self, rig: Rig) -> None:
        client = rig.client()
        reached = await rig.ask(client)
        reached.receive(answer(b"a" * 50)[:-5])
        await rig.settle()
        assert client.take().endswith(b"a" * 45)
        reached.receive(b"a" * 5)
        await rig.settle()
        assert client.take() == b"a" * 5

    async def test_nor_what_is_very_long(self, rig: Rig) -> None:
        client = rig.client()
        reached = await rig.ask(client)
        message = answer(b"a" * (1024 * 1024 + 1), headers=JSON)
        reached.receive(message[:1000])
        await rig.settle()
        assert client.take()
        reached.receive(message[1000:])
        await rig.settle()
        assert len(client.take()) == len(message) - 1000

    async def test_a_client_that_leaves_meanwhile(self, rig: Rig) -> None:
        client = rig.client()
        reached = await rig.ask(client)
        reached.receive(answer(whole("stop"), headers=JSON)[:-5])
        client.lose()
        await rig.settle()
        assert reached.is_closing()
        rig.assert_nothing_is_held()


class TestMiddle:
    """Something of the answer has gone to the client."""

    @pytest.mark.parametrize(
        ("last", "flaw"),
        [
            (ERROR, "The stream has an error in it"),
            (token("", "abort"), "The instance aborted the answer, which nobody asked for"),
        ],
    )
    @pytest.mark.parametrize("step", [0, 40, 70])
    async def test_it_is_passed_on_and_counts_as_a_failure(self, rig: Rig, last: bytes, flaw: str, step: int) -> None:
        breakers = watched(rig)
        client = rig.client()
        reached = await rig.ask(client, STREAMED)
        reached.receive(STREAM_HEAD + chunk(token()))
        for _ in range(20):
            reached.receive(chunk(token()))
        reached.receive(chunk(last) + DONE, step)
        await rig.settle()
        assert client.take().endswith(chunk(last) + DONE)
        assert not client.is_closing(), "it is whole, and the connection serves on"
        record = rig.records[0]
        assert (record.outcome, record.flaw) == ("failed", flaw)
        assert breakers[0].told == [200, ("error_answer", True)]
        assert any(line.endswith(f"scanner error: http://10.0.0.1:8000: {flaw}") for line in rig.log_lines)
        assert any(f"Request completed with an error. {flaw}" in line for line in rig.log_lines)
        rig.assert_nothing_is_held()

    async def test_a_good_one_counts_as_one(self, rig: Rig) -> None:
        client = rig.client()
        reached = await rig.ask(client, STREAMED)
        reached.receive(STREAM_HEAD + chunk(token()) + chunk(token("", "stop")) + DONE)
        await rig.settle()
        assert (rig.records[0].outcome, rig.records[0].flaw) == ("completed", "")

    async def test_an_abort_that_was_asked_for_is_no_flaw(self, rig: Rig) -> None:
        client = rig.client()
        reached = await rig.ask(client, b'{"prompt": "x", "stream": true, "request_id": "mine"}')
        reached.receive(STREAM_HEAD + chunk(token()))
        (request,) = rig.context.in_flight.find("mine")
        request.on_abort_asked()
        reached.receive(chunk(token("", "abort")) + DONE)
        await rig.settle()
        assert (rig.records[0].outcome, rig.records[0].flaw) == ("completed", "")


class TestPairs:
    """The same of a decode instance."""

    @pytest.mark.parametrize("how", ["stream", "whole"])
    async def test_an_abort_as_the_first_thing_means_another_pair(self, how: str) -> None:
        rig = PairRig(2, 2)
        client = rig.client()
        body = STREAMED if how == "stream" else b'{"prompt": "x"}'
        _, decode = await rig.pair(client, body)
        aborted = STREAM_HEAD + chunk(token("", "abort")) + DONE if how == "stream" else answer(whole("abort"))
        decode.receive(aborted)
        await rig.settle()
        assert not client.written
        _, decode = rig.reached()
        decode.receive(STREAM_HEAD + chunk(token()) + DONE if how == "stream" else answer(whole("stop")))
        await rig.settle()
        assert b"abort" not in client.take()

    async def test_an_abort_that_was_asked_for_is_passed_on(self) -> None:
        rig = PairRig(2, 2)
        client = rig.client()
        _, decode = await rig.pair(client, b'{"prompt": "x", "request_id": "mine"}')
        (request,) = rig.pair_context.in_flight.find("mine")
        request.on_abort_asked()
        decode.receive(answer(whole("abort")))
        await rig.settle()
        assert client.take().endswith(whole("abort"))

    @pytest.mark.parametrize("step", [0, 40])
    async def test_an_error_in_the_middle_is_passed_on_and_counts(self, step: int) -> None:
        rig = PairRig(1, 1)
        breakers = watched(rig)
        client = rig.client()
        _, decode = await rig.pair(client, STREAMED)
        decode.receive(STREAM_HEAD + chunk(token()))
        decode.receive(chunk(ERROR) + DONE, step)
        await rig.settle()
        assert client.take().endswith(chunk(ERROR) + DONE)
        assert (rig.records[0].outcome, rig.records[0].flaw) == ("failed", "The stream has an error in it")
        assert breakers[1].told == [200, ("error_answer", True)]

    @pytest.mark.parametrize(
        "event",
        [
            b'data: {"choices": [{"delta": {"completion_token_ids": [7]}, "finish_reason": "pd_reschedule"}]}\n\n',
            b'data: {"error": {"message": "PD Error: no memory", "code": 500}}\n\n',
        ],
    )
    @pytest.mark.parametrize("reads", [1, 3])
    async def test_a_stream_that_gives_back_at_once_is_scheduled_again(self, event: bytes, reads: int) -> None:
        rig = PairRig(2, 2)
        client = rig.client()
        _, decode = await rig.pair(client, STREAMED)
        for piece in [STREAM_HEAD + chunk(event) + DONE] if reads == 1 else [STREAM_HEAD + chunk(event), DONE]:
            decode.receive(piece)
        await rig.settle()
        assert not client.written
        _, again = rig.reached()
        assert again.peer != decode.peer, "another one, if there is one"
        assert b"-retry1" in again.written
        assert (b'"completion_token_ids":[7]' in again.written) is (b"pd_reschedule" in event)
        again.receive(STREAM_HEAD + chunk(token()) + DONE)
        await rig.settle()
        assert client.take().endswith(chunk(token()) + DONE)
        await self.end_prefill(rig)
        rig.assert_nothing_is_held()

    async def end_prefill(self, rig: PairRig) -> None:
        """Prefill, which is drained, ends too."""
        for transport in rig.backend.live:
            if not transport.protocol.is_idle:  # type: ignore[union-attr]
                transport.receive(STREAM_HEAD + chunk(token()) + DONE)
        await rig.settle()

    async def test_where_it_may_not_be_the_client_gets_the_stream_as_it_came(self) -> None:
        rig = PairRig(1, 1, preempt_retry_count=0)
        client = rig.client()
        _, decode = await rig.pair(client, STREAMED)
        decode.receive(STREAM_HEAD + chunk(token("", "pd_reschedule")) + DONE)
        await rig.settle()
        assert client.take().endswith(chunk(token("", "pd_reschedule")) + DONE)
        await self.end_prefill(rig)
        rig.assert_nothing_is_held()
