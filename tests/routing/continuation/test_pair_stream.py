"""A stream of a disaggregated fleet goes on at another pair."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from fd_router.engines.vllm import VllmDialect
from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.continuation.contracts import Move
from fd_router.routing.continuation.keeper import StreamKeeper
from fd_router.routing.pair import PairRequest
from tests.support.exact_engine import TIGHT, ExactEngine, events_of
from tests.support.fake_transport import FakeTransport
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, answer, chunk, post

BODY = json.dumps({"prompt": "Say it:", "stream": True, "return_token_ids": True, "request_id": "mine"}).encode()
PREFILL = STREAM_HEAD + chunk(b'data: {"choices":[{"index":0,"text":"W"}]}\n\n') + STREAM_END


class PairStreamRig(PairRig):
    """Pairs that all give the same answer."""

    def __init__(self, pairs: int = 3, **settings: Any) -> None:
        super().__init__(pairs, pairs, **settings)
        self.budget = JournalBudget(1 << 20)
        metrics = self.telemetry.metrics.continuations
        self.change(streams=StreamKeeper(self.live, self.budget, metrics, self.timers.time, chat=False))
        self.engine = ExactEngine("fastdeploy", TIGHT)

    async def begin(self, client: FakeTransport, upto: int) -> FakeTransport:
        prefill, decode = await self.pair(client, BODY)
        prefill.receive(PREFILL)
        decode.receive(STREAM_HEAD + self.engine.answer(BODY, chat=False)[:upto])
        await self.settle()
        return decode

    async def answer_next(self) -> dict[str, Any]:
        """Answer the two requests that the next pair got. Returns their body."""
        await self.settle()
        prefill, decode = self.reached()
        bodies = [one.written.rpartition(b"\r\n\r\n")[2] for one in (prefill, decode)]
        assert bodies[0] == bodies[1]
        prefill.receive(PREFILL)
        decode.receive(STREAM_HEAD + self.engine.answer(bodies[0], chat=False))
        await self.settle()
        fields: dict[str, Any] = json.loads(bodies[0])
        return fields

    def assert_all_is_given_back(self) -> None:
        self.assert_nothing_is_held()
        assert self.budget.used == 0


@pytest.mark.parametrize("upto", [200, 500, 900])
async def test_decode_dies(upto: int) -> None:
    rig = PairStreamRig()
    client = rig.client()
    decode = await rig.begin(client, upto)
    decode.lose(ConnectionResetError("reset by peer"))
    body = await rig.answer_next()
    assert body["request_id"] == "mine-retry1"
    assert body["disaggregate_info"]["decode_ip"] == "10.0.0.102"
    assert events_of(client.written.partition(b"\r\n\r\n")[2]) == events_of(rig.engine.answer(BODY, chat=False))
    record = rig.records[0]
    assert (record.continued, record.continued_from, record.outcome) == (1, "http://10.0.0.101:8000", "completed")
    rig.assert_all_is_given_back()


async def test_decode_gives_the_request_back_in_mid_stream() -> None:
    rig = PairStreamRig()
    client = rig.client()
    whole = rig.engine.answer(BODY, chat=False)
    decode = await rig.begin(client, whole.index(b"\n\n\r\n", 600) + 4)
    decode.receive(
        chunk(b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"","finish_reason":"pd_reschedule"}]}\n\n')
    )
    await rig.answer_next()
    assert events_of(client.written.partition(b"\r\n\r\n")[2]) == events_of(whole)
    rig.assert_all_is_given_back()


async def test_the_only_pair_is_asked_once_more() -> None:
    """As an only instance is, in a centralized fleet."""
    rig = PairStreamRig(1)
    client = rig.client()
    whole = rig.engine.answer(BODY, chat=False)
    decode = await rig.begin(client, whole.index(b"\n\n\r\n", 600) + 4)
    decode.receive(
        chunk(b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"","finish_reason":"pd_reschedule"}]}\n\n')
    )
    body = await rig.answer_next()
    assert body["disaggregate_info"]["decode_ip"] == "10.0.0.101"
    assert events_of(client.written.partition(b"\r\n\r\n")[2]) == events_of(whole)
    rig.assert_all_is_given_back()


async def test_what_the_only_pair_says_before_any_token_is_told() -> None:
    """It says more than the end of a connection would, should the pair fail so again."""
    rig = PairStreamRig(1)
    client = rig.client()
    prefill, decode = await rig.pair(client, BODY)
    prefill.receive(PREFILL)
    role = b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"","finish_reason":null}]}\n\n'
    decode.receive(STREAM_HEAD + chunk(role) + chunk(b'data: {"error":{"message":"out of order"}}\n\n'))
    await rig.settle()
    decode.receive(chunk(b"data: [DONE]\n\n") + STREAM_END)
    await rig.settle()
    assert b"out of order" in client.written
    assert client.written.endswith(b"data: [DONE]\n\n\r\n" + STREAM_END)
    rig.assert_all_is_given_back()


async def test_the_only_pair_is_not_asked_again_that_drains() -> None:
    rig = PairStreamRig(1)
    client = rig.client()
    await rig.begin(client, 600)
    request = rig.pair_context.in_flight.find("mine")[0]
    assert request.move_stream("10.0.0.101:8000", "drained") is Move.LATER
    client.lose()
    await rig.settle()
    rig.assert_all_is_given_back()


async def test_a_pd_error_in_mid_stream() -> None:
    rig = PairStreamRig()
    client = rig.client()
    whole = rig.engine.answer(BODY, chat=False)
    decode = await rig.begin(client, whole.index(b"\n\n\r\n", 600) + 4)
    decode.receive(chunk(b'data: {"error": {"message": "PD Error: no memory"}}\n\n'))
    await rig.answer_next()
    assert events_of(client.written.partition(b"\r\n\r\n")[2]) == events_of(whole)
    assert rig.records[0].flaw == ""
    rig.assert_all_is_given_back()


async def test_a_pd_error_in_the_first_bytes_of_a_whole_answer() -> None:
    rig = PairStreamRig()
    client = rig.client()
    whole = rig.engine.answer(BODY, chat=False)
    prefill, decode = await rig.pair(client, BODY)
    prefill.receive(PREFILL)
    error = chunk(b'data: {"error": {"message": "PD Error: no memory"}}\n\n') + STREAM_END
    decode.receive(STREAM_HEAD + whole[: whole.index(b"\n\n\r\n", 600) + 4] + error)
    await rig.answer_next()
    assert events_of(client.written.partition(b"\r\n\r\n")[2]) == events_of(whole)
    rig.assert_all_is_given_back()


async def test_the_next_prefill_dies() -> None:
    rig = PairStreamRig()
    client = rig.client()
    (await rig.begin(client, 600)).lose()
    await rig.settle()
    prefill, _ = rig.reached()
    prefill.lose(ConnectionResetError("reset by peer"))
    body = await rig.answer_next()
    assert body["request_id"] == "mine-retry2"
    assert events_of(client.written.partition(b"\r\n\r\n")[2]) == events_of(rig.engine.answer(BODY, chat=False))
    rig.assert_all_is_given_back()


async def test_the_one_that_goes_on_is_found_by_the_first_id() -> None:
    rig = PairStreamRig()
    client = rig.client()
    (await rig.begin(client, 600)).lose()
    await rig.settle()
    (running,) = rig.pair_context.in_flight.find("mine")
    assert running.engine_id == "mine-retry1"
    assert [instance.key for instance in running.instances()] == ["10.0.0.2:8000", "10.0.0.102:8000"]
    client.lose()
    await rig.settle()
    rig.assert_all_is_given_back()


async def test_a_pair_is_given_back_when_noting_it_meets_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = PairStreamRig()
    client = rig.client()
    decode = await rig.begin(client, 600)

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(PairRequest, "_tell_choice", fail)
    decode.lose()
    await rig.settle()
    assert client.is_closing()
    assert [str(context["exception"]) for context in rig.bugs] == ["a bug"]
    rig.bugs.clear()
    rig.assert_all_is_given_back()


async def test_a_pair_whose_decode_drains_is_left() -> None:
    rig = PairStreamRig()
    client = rig.client()
    decode = await rig.begin(client, 600)
    request = rig.pair_context.in_flight.find("mine")[0]
    assert request.move_stream("10.0.0.1:8000", "drained") is Move.ENDS  # the prefill instance has done its part
    assert request.move_stream("10.0.0.101:8000", "drained", silent_since=-1.0) is Move.ENDS
    assert request.move_stream("10.0.0.101:8000", "drained") is Move.MOVED
    assert decode.is_closing()
    body = await rig.answer_next()
    assert body["disaggregate_info"]["decode_ip"] == "10.0.0.102"
    assert events_of(client.written.partition(b"\r\n\r\n")[2]) == events_of(rig.engine.answer(BODY, chat=False))
    rig.assert_all_is_given_back()


async def test_a_stream_moves_from_pair_to_pair() -> None:
    rig = PairStreamRig()
    client = rig.client()
    await rig.begin(client, 600)
    request = rig.pair_context.in_flight.find("mine")[0]
    assert request.move_stream("10.0.0.101:8000", "drained") is Move.MOVED
    await rig.settle()
    prefill, decode = rig.reached()
    assert request.move_stream("10.0.0.102:8000", "drained") is Move.ENDS  # it hasn't begun
    body = prefill.written.rpartition(b"\r\n\r\n")[2]
    prefill.receive(PREFILL)
    decode.receive(STREAM_HEAD + rig.engine.answer(body, chat=False)[:500])
    await rig.settle()
    assert request.move_stream("10.0.0.102:8000", "dead", silent_since=rig.timers.time()) is Move.MOVED
    await rig.answer_next()
    assert events_of(client.written.partition(b"\r\n\r\n")[2]) == events_of(rig.engine.answer(BODY, chat=False))
    assert rig.records[0].continued == 2
    rig.assert_all_is_given_back()


async def test_nobody_can_go_on() -> None:
    rig = PairStreamRig(continue_streams="off")
    client = rig.client()
    (await rig.begin(client, 600)).lose()
    await rig.settle()
    assert client.is_closing()
    text = rig.telemetry.metrics.render().decode()
    assert not re.search(r"fd_router_stream_continuations_total{", text)
    rig.assert_all_is_given_back()


async def test_the_next_decode_waits_for_its_prefill_and_is_counted_rightly() -> None:
    """Where prefill goes first; the audit of counts takes one for wrong for which no request is there, or will come."""
    rig = PairStreamRig(2, dialect=VllmDialect())
    client = rig.client()
    rig.engine = ExactEngine("vllm", TIGHT)
    client.receive(post(BODY))
    await rig.settle()
    told = {"do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": [[1]], "remote_engine_id": "e"}
    prefilled = answer(json.dumps({"choices": [{}], "kv_transfer_params": told}).encode())
    busy_one(rig).receive(prefilled)
    await rig.settle()
    decode = busy_one(rig)
    decode.receive(STREAM_HEAD + rig.engine.answer(BODY, chat=False)[:700])
    await rig.settle()
    decode.lose(ConnectionResetError("reset by peer"))
    await rig.settle()
    assert busy_one(rig).peer == ("10.0.0.2", 8000)
    other = rig.decodes[1]
    assert (other.own_running, rig.pools.busy(other.key)) == (1, 1)
    busy_one(rig).receive(prefilled)
    await rig.settle()
    assert busy_one(rig).peer == ("10.0.0.102", 8000)
    assert (other.own_running, rig.pools.busy(other.key)) == (1, 1)
    client.lose()
    await rig.settle()
    assert rig.pools.busy(other.key) == 0
    rig.assert_all_is_given_back()


async def test_no_pair_goes_on_for_a_client_that_takes_nothing() -> None:
    rig = PairStreamRig(3, stall_timeout_secs=5.0, gap_comment_secs=0.0)
    client = rig.client()
    decode = await rig.begin(client, 700)
    before = len(rig.backend.opened)
    client.protocol.pause_writing()  # type: ignore[union-attr]
    await rig.pass_time(6)
    assert decode.aborted
    assert len(rig.backend.opened) == before
    assert rig.records[0].outcome == "failed"
    rig.assert_all_is_given_back()


def busy_one(rig: PairRig) -> FakeTransport:
    """Return the only connection that waits for an answer."""
    (found,) = [one for one in rig.backend.live if not one.protocol.is_idle]  # type: ignore[union-attr]
    return found
