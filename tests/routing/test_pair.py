"""A request to a pair of instances, with fake connections on all sides."""

from __future__ import annotations

import json

import pytest

from fd_router.instances.instance import Health
from fd_router.routing.phase import Phase
from tests.routing.test_blame import counts, watch
from tests.routing.test_single import error_of
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, answer, chunk, post

WHOLE = b'{"prompt": "hello"}'
STREAMED = b'{"prompt": "hello", "stream": true}'
EVENT = chunk(b'data: {"a": 1}\n\n')


def body_of(data: bytes) -> dict[str, object]:
    sent: dict[str, object] = json.loads(data.partition(b"\r\n\r\n")[2])
    return sent


def phase_of(rig: PairRig) -> Phase:
    (request,) = rig.state.proxied_requests()
    return request.phase  # type: ignore[attr-defined,no-any-return]


class TestSuccess:
    async def test_both_get_one_body_and_the_answer_is_decodes(self) -> None:
        rig = PairRig()
        client = rig.client()
        prefill, decode = await rig.pair(client, WHOLE)
        assert (prefill.peer, decode.peer) == (("10.0.0.1", 8000), ("10.0.0.101", 8000))
        assert body_of(prefill.written) == body_of(decode.written)
        assert "disaggregate_info" in body_of(prefill.written)
        assert rig.counts() == [(1, 10), (0, 0), (1, 0), (0, 0)]
        assert phase_of(rig) is Phase.AWAITING
        prefill.receive(answer(b'{"p": 1}'))
        assert rig.counts() == [(0, 0), (0, 0), (1, 0), (0, 0)]
        decode.receive(answer(b'{"d": 1}'))
        await rig.settle()
        head, _, body = client.take().partition(b"\r\n\r\n")
        assert body == b'{"d": 1}'
        assert b"X-Router-Prefill-URL: http://10.0.0.1:8000\r\nX-Router-Decode-URL: http://10.0.0.101:8000" in head
        (attempt,) = rig.records[0].all_attempts()
        assert attempt.instances == ("http://10.0.0.1:8000", "http://10.0.0.101:8000")
        assert (attempt.outcome, attempt.status) == ("completed", 200)
        rig.assert_nothing_is_held()

    async def test_a_stream_and_a_prefill_that_answers_behind_it(self) -> None:
        rig = PairRig(1, 1)
        client = rig.client()
        prefill, decode = await rig.pair(client, STREAMED)
        decode.receive(STREAM_HEAD)
        assert phase_of(rig) is Phase.AWAITING  # a head alone is held back
        decode.receive(EVENT)
        assert phase_of(rig) is Phase.STREAMING
        prefill.receive(STREAM_HEAD + EVENT)
        assert rig.counts() == [(0, 0), (1, 0)]
        decode.receive(STREAM_END)
        await rig.settle()
        assert client.written.endswith(EVENT + STREAM_END)
        assert rig.state.proxied_requests() == []
        prefill.receive(STREAM_END)  # drained
        rig.assert_nothing_is_held()

    async def test_a_stream_that_nobody_asked_for_is_one_by_its_type(self) -> None:
        rig = PairRig(1, 1)
        client = rig.client()
        prefill, decode = await rig.pair(client, WHOLE)
        prefill.receive(STREAM_HEAD + EVENT)
        assert rig.counts() == [(0, 0), (1, 0)]
        decode.receive(STREAM_HEAD + EVENT)
        await rig.settle()
        assert client.take().endswith(EVENT)
        decode.receive(STREAM_END)
        prefill.receive(STREAM_END)
        await rig.settle()
        assert rig.records[0].stream
        rig.assert_nothing_is_held()

    async def test_a_whole_answer_to_who_asked_for_a_stream_is_one(self) -> None:
        rig = PairRig(1, 1)
        client = rig.client()
        prefill, decode = await rig.pair(client, STREAMED)
        whole = answer(b'{"d": 1}', headers="Content-Type: application/json\r\n")
        decode.receive(whole[:-3])
        await rig.settle()
        assert client.take() == b""  # it might give the request back
        decode.receive(whole[-3:])
        prefill.receive(answer(b"{}"))
        await rig.settle()
        assert client.take().endswith(b'{"d": 1}')
        assert not rig.records[0].stream
        rig.assert_nothing_is_held()

    async def test_of_another_type_it_is_what_was_asked_for(self) -> None:
        rig = PairRig(1, 1)
        client = rig.client()
        prefill, decode = await rig.pair(client, STREAMED)
        decode.receive(STREAM_HEAD.replace(b"text/event-stream", b"application/x-ndjson") + chunk(b"{}\n"))
        await rig.settle()
        assert client.take().endswith(chunk(b"{}\n"))
        decode.receive(STREAM_END)
        prefill.receive(answer(b"{}"))
        await rig.settle()
        rig.assert_nothing_is_held()

    async def test_it_is_connecting_until_both_have_it(self) -> None:
        rig = PairRig(1, 1)
        rig.backend.hanging.add("10.0.0.101")
        rig.client().receive(post(WHOLE))
        await rig.settle()
        assert phase_of(rig) is Phase.CONNECTING
        assert rig.records[0].sent_at == 0.0

    async def test_a_slow_client_stops_decode_alone(self) -> None:
        rig = PairRig(1, 1)
        client = rig.client()
        prefill, decode = await rig.pair(client, STREAMED)
        decode.receive(STREAM_HEAD + EVENT)
        client.protocol.pause_writing()  # type: ignore[union-attr]
        assert (prefill.paused, decode.paused) == (False, True)
        client.protocol.resume_writing()  # type: ignore[union-attr]
        assert not decode.paused


@pytest.mark.parametrize("role", ["prefill", "decode"])
class TestFailures:
    def guilty(self, rig: PairRig, role: str) -> int:
        return 0 if role == "prefill" else 1

    async def test_refused_means_another_pair_without_it(self, role: str) -> None:
        rig = PairRig()
        host = "10.0.0.1" if role == "prefill" else "10.0.0.101"
        rig.backend.failures[host] = [ConnectionRefusedError()]
        client = rig.client()
        client.receive(post(WHOLE))
        await rig.settle()
        prefill, decode = rig.reached()
        reached = (prefill, decode)[self.guilty(rig, role)]
        assert reached.peer is not None
        assert reached.peer[0] != host
        assert rig.failed == [(f"{host}:8000", "refused")]
        prefill.receive(answer(b"{}"))
        decode.receive(answer(b"{}"))
        await rig.settle()
        assert client.take().startswith(b"HTTP/1.1 200 OK")
        assert rig.records[0].attempts == 1
        first, second = rig.records[0].all_attempts()
        assert (first.outcome, first.status, second.outcome) == ("refused", 0, "completed")
        rig.assert_nothing_is_held()

    async def test_an_error_answer_too_which_is_no_failed_connection(self, role: str) -> None:
        rig = PairRig()
        client = rig.client()
        both = await rig.pair(client, WHOLE)
        breaker = watch((rig.prefills, rig.decodes)[self.guilty(rig, role)][0])
        both[self.guilty(rig, role)].receive(answer(b"no", "500 Oops"))
        await rig.settle()
        assert counts(breaker) == (1, 1)
        assert rig.failed == []
        for transport in rig.reached():
            transport.receive(answer(b"{}"))
        await rig.settle()
        assert client.take().startswith(b"HTTP/1.1 200 OK")
        first, _ = rig.records[0].all_attempts()
        assert (first.outcome, first.status) == ("error_answer", 500)
        rig.assert_nothing_is_held()

    async def test_a_refusal_of_the_request_is_passed_on_once(self, role: str) -> None:
        rig = PairRig()
        client = rig.client()
        both = await rig.pair(client, WHOLE)
        both[self.guilty(rig, role)].receive(answer(b"too long", "400 Bad Request"))
        await rig.settle()
        assert client.take().endswith(b"too long")
        assert len(rig.backend.opened) == 2
        rig.assert_nothing_is_held()

    async def test_when_attempts_are_used_up_the_client_reads_whose_fault_it_was(self, role: str) -> None:
        rig = PairRig(3, 3, max_attempts=2)
        client = rig.client()
        client.receive(post(WHOLE))
        for _ in range(2):
            await rig.settle()
            rig.reached()[self.guilty(rig, role)].lose(ConnectionResetError("reset by peer"))
        await rig.settle()
        status, message = error_of(client.take())
        assert status == 502
        assert message.startswith(f"Failed to connect to backend service: {role} instance http://10.0.0.")
        assert [attempt.outcome for attempt in rig.records[0].all_attempts()] == ["reset", "reset"]
        rig.assert_nothing_is_held()

    async def test_the_last_pair_fails(self, role: str) -> None:
        rig = PairRig(1, 1)
        client = rig.client()
        both = await rig.pair(client, WHOLE)
        rig.prefills[0].health = Health.SUSPECT
        both[self.guilty(rig, role)].lose()
        await rig.settle()
        assert error_of(client.take())[0] == 502
        rig.assert_nothing_is_held()

    async def test_a_client_that_leaves(self, role: str) -> None:
        rig = PairRig()
        client = rig.client()
        both = await rig.pair(client, WHOLE)
        both[self.guilty(rig, role)].receive(answer(b"{}")[:-1])
        client.lose()
        await rig.settle()
        assert rig.records[0].outcome == "client_gone"
        rig.assert_nothing_is_held()


class TestAfterTheFirstByte:
    async def test_decode_that_breaks_off_is_seen(self) -> None:
        rig = PairRig()
        client = rig.client()
        _, decode = await rig.pair(client, STREAMED)
        decode.receive(STREAM_HEAD + EVENT)
        decode.lose()
        await rig.settle()
        assert client.written.endswith(EVENT)
        assert client.is_closing()
        (attempt,) = rig.records[0].all_attempts()
        assert (attempt.outcome, attempt.status) == ("cut_off", 200)
        rig.assert_nothing_is_held()

    async def test_prefill_has_no_say(self) -> None:
        rig = PairRig()
        client = rig.client()
        prefill, decode = await rig.pair(client, STREAMED)
        decode.receive(STREAM_HEAD + EVENT)
        prefill.lose()
        decode.receive(STREAM_END)
        await rig.settle()
        assert client.written.endswith(STREAM_END)
        assert "the decode instance goes on" in rig.outlet.text
        assert rig.records[0].outcome == "completed"
        rig.assert_nothing_is_held()


class TestGivenBack:
    GIVEN_BACK = answer(b'{"error": {"message": "PD Error: no blocks"}, "choices": []}')

    async def test_it_is_scheduled_again(self) -> None:
        rig = PairRig()
        client = rig.client()
        prefill, decode = await rig.pair(client, WHOLE)
        prefill.receive(answer(b"{}"))
        decode.receive(self.GIVEN_BACK)
        await rig.settle()
        for transport in rig.reached():
            transport.receive(answer(b'{"d": 2}'))
        await rig.settle()
        assert client.take().endswith(b'{"d": 2}')
        assert [attempt.outcome for attempt in rig.records[0].all_attempts()] == ["given back", "completed"]
        rig.assert_nothing_is_held()

    async def test_where_nobody_else_is_there_the_answer_is_passed_on(self) -> None:
        rig = PairRig(1, 1)
        client = rig.client()
        prefill, decode = await rig.pair(client, WHOLE)
        prefill.receive(answer(b"{}"))
        rig.prefills[0].health = Health.SUSPECT
        decode.receive(self.GIVEN_BACK)
        await rig.settle()
        assert b"PD Error" in client.take()
        (attempt,) = rig.records[0].all_attempts()
        assert attempt.outcome == "completed"
        rig.prefills[0].health = Health.HEALTHY
        rig.assert_nothing_is_held()
