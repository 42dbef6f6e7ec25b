"""Pairs of vLLM and SGLang, with fake connections on all sides: what is sent when, and what each failure leads to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.engines.sglang import SglangDialect
from fd_router.engines.vllm import VllmDialect
from fd_router.routing.phase import Phase
from tests.routing.test_pair import EVENT, STREAMED, WHOLE, body_of, phase_of
from tests.routing.test_single import error_of
from tests.support.fake_transport import FakeTransport
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, answer, post

TOLD = {"do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": [[1]], "remote_engine_id": "e"}
PREFILLED = answer(json.dumps({"choices": [{}], "kv_transfer_params": TOLD}).encode())
FAILED = answer(b'{"error":{"message":"Internal server error"}}', "500 Internal Server Error")
PUSH = {"kv_transfer": {"kv_connector": "NixlPushConnector", "engine_id": "e", "side_channel_port": 5600}}
MOONCAKE = {"kv_transfer": {"kv_connector": "MooncakeConnector", "engine_id": "e"}}


def rig_of(protocol: str, prefills: int = 2, decodes: int = 2) -> PairRig:
    dialect = SglangDialect() if protocol == "sglang" else VllmDialect()
    told: dict[str, Any] = {"push": PUSH, "mooncake": MOONCAKE}.get(protocol, {})
    return PairRig(prefills, decodes, dialect, told)


def busy(rig: PairRig) -> FakeTransport:
    """Return the only connection that waits for an answer."""
    (found,) = [one for one in rig.backend.live if not one.protocol.is_idle]  # type: ignore[union-attr]
    return found


def header(message: bytes, name: bytes) -> bytes:
    return message.partition(name + b": ")[2].partition(b"\r\n")[0]


class TestPull:
    async def test_decode_is_asked_when_prefill_has_answered(self) -> None:
        rig = rig_of("pull")
        client = rig.client()
        client.receive(post(STREAMED))
        await rig.settle()
        prefill = busy(rig)
        assert prefill.peer == ("10.0.0.1", 8000)
        assert phase_of(rig) is Phase.AWAITING
        assert rig.counts() == [(1, 10), (0, 0), (1, 0), (0, 0)]
        assert body_of(prefill.written)["max_tokens"] == 1
        prefill.receive(PREFILLED)
        await rig.settle()
        decode = busy(rig)
        assert decode.peer == ("10.0.0.101", 8000)
        assert phase_of(rig) is Phase.AWAITING
        assert rig.counts() == [(0, 0), (0, 0), (1, 0), (0, 0)]
        assert body_of(decode.written) == {"kv_transfer_params": TOLD, "prompt": "hello", "stream": True}
        decode.receive(STREAM_HEAD + EVENT + STREAM_END)
        await rig.settle()
        assert client.take().endswith(EVENT + STREAM_END)
        assert rig.records[0].outcome == "completed"
        rig.assert_nothing_is_held()

    @pytest.mark.parametrize("end", ["answer", "prefill", "client", "dead"])
    async def test_decodes_count_is_right_while_it_waits_for_prefill(self, end: str) -> None:
        """The audit takes a count for wrong for which neither a connection is there, nor a request that will come."""
        rig = rig_of("pull", 1, 1)
        client = rig.client()
        client.receive(post(STREAMED))
        await rig.settle()
        decode = rig.instances[1]
        assert (decode.own_running, rig.pools.busy(decode.key)) == (1, 1)
        if end == "answer":
            busy(rig).receive(PREFILLED)
            await rig.settle()
            assert (decode.own_running, rig.pools.busy(decode.key)) == (1, 1)
            busy(rig).receive(STREAM_HEAD + EVENT + STREAM_END)
        elif end == "prefill":
            busy(rig).receive(answer(b'{"choices":[]}'))
        elif end == "client":
            client.lose()
        else:
            (request,) = rig.state.proxied_requests()
            assert request.on_instance_dead(decode.key, "refused")  # type: ignore[attr-defined]
            client.lose()
        await rig.settle()
        assert [rig.pools.busy(instance.key) for instance in rig.instances] == [0, 0]
        rig.assert_nothing_is_held()

    async def test_a_prefill_without_a_cache_has_failed_and_decode_is_not_asked(self) -> None:
        rig = rig_of("pull", 1, 1)
        client = rig.client()
        client.receive(post(WHOLE))
        await rig.settle()
        busy(rig).receive(answer(b'{"choices":[]}'))
        await rig.settle()
        status, message = error_of(client.take())
        assert status == 502
        assert "prefill instance http://10.0.0.1:8000: its answer lacks what decode needs" in message
        assert not any(one.peer == ("10.0.0.101", 8000) for one in rig.backend.opened)
        rig.assert_nothing_is_held()

    async def test_what_prefill_says_of_the_request_is_the_answer(self) -> None:
        rig = rig_of("pull")
        client = rig.client()
        client.receive(post(WHOLE))
        await rig.settle()
        busy(rig).receive(answer(b'{"error":"too long"}', "400 Bad Request"))
        await rig.settle()
        assert client.take().endswith(b'{"error":"too long"}')
        rig.assert_nothing_is_held()

    async def test_a_decode_that_can_not_be_reached_was_not_lost(self) -> None:
        """Prefill was sent something; that makes no reset of a refusal by decode."""
        rig = rig_of("pull")
        rig.backend.failures["10.0.0.101"] = [ConnectionRefusedError()]
        rig.client().receive(post(WHOLE))
        await rig.settle()
        busy(rig).receive(PREFILLED)
        await rig.settle()
        assert [attempt.outcome for attempt in rig.records[0].failed_attempts] == ["refused"]
        assert busy(rig).peer == ("10.0.0.2", 8000)  # prefill again: what was computed is for one decode

    @pytest.mark.parametrize("phase", ["prefill", "decode"])
    async def test_a_client_that_leaves(self, phase: str) -> None:
        rig = rig_of("pull", 1, 1)
        client = rig.client()
        client.receive(post(WHOLE))
        await rig.settle()
        if phase == "decode":
            busy(rig).receive(PREFILLED)
            await rig.settle()
        upstream = busy(rig)
        client.lose()
        await rig.settle()
        assert upstream.is_closing()
        assert rig.records[0].outcome == "client_gone"
        rig.assert_nothing_is_held()

    async def test_a_prefill_that_is_too_slow_is_replaced(self) -> None:
        rig = rig_of("pull")
        rig.client().receive(post(WHOLE))
        await rig.settle()
        await rig.pass_time(121)
        assert busy(rig).peer == ("10.0.0.2", 8000)


@pytest.mark.parametrize("protocol", ["push", "mooncake", "sglang"])
class TestTogether:
    async def test_both_are_asked_at_once(self, protocol: str) -> None:
        rig = rig_of(protocol)
        client = rig.client()
        prefill, decode = await rig.pair(client, WHOLE)
        prefill.receive(answer(b'{"p":1}'))
        assert rig.counts() == [(0, 0), (0, 0), (1, 0), (0, 0)]
        decode.receive(answer(b'{"d":1}'))
        await rig.settle()
        assert client.take().endswith(b'{"d":1}')
        rig.assert_nothing_is_held()

    async def test_another_attempt_has_other_ids_and_ends_the_other_leg(self, protocol: str) -> None:
        rig = rig_of(protocol)
        client = rig.client()
        prefill, decode = await rig.pair(client, WHOLE, headers="X-Request-Id: mine\r\n")
        first = ids_of(prefill.written, decode.written)
        prefill.lose()
        await rig.settle()
        assert decode.is_closing()
        prefill, decode = rig.reached()
        assert prefill.peer == ("10.0.0.2", 8000)
        assert not first & ids_of(prefill.written, decode.written)
        prefill.receive(answer(b'{"p":1}'))
        decode.receive(answer(b'{"d":1}'))
        await rig.settle()
        assert b"x-request-id: mine\r\n" in client.written.lower()
        assert client.take().endswith(b'{"d":1}')
        rig.assert_nothing_is_held()


def ids_of(prefill: bytes, decode: bytes) -> set[object]:
    """Return what tells one attempt from another; the same at both."""
    bodies = [body_of(prefill), body_of(decode)]
    if "bootstrap_room" in bodies[0]:
        assert bodies[0] == bodies[1]
        return {bodies[0]["bootstrap_room"]}
    (transfer,) = {body["kv_transfer_params"]["transfer_id"] for body in bodies}  # type: ignore[index]
    told = bodies[1]["kv_transfer_params"]
    if "remote_request_id" not in told:  # type: ignore[operator]
        return {transfer}
    (request_id,) = {header(prefill, b"x-request-id"), header(decode, b"x-request-id")}
    assert told["remote_request_id"] == request_id.decode()  # type: ignore[index]
    return {transfer, request_id}


class TestAlone:
    async def test_decode_serves_what_a_pair_can_not(self) -> None:
        rig = rig_of("pull")
        client = rig.client()
        client.receive(post(b'{"prompt": ["a", "b"]}'))
        await rig.settle()
        decode = busy(rig)
        assert decode.peer == ("10.0.0.101", 8000)
        assert decode.written.endswith(b'{"prompt": ["a", "b"]}')
        assert phase_of(rig) is Phase.AWAITING
        assert rig.counts() == [(0, 0), (0, 0), (1, 6), (0, 0)]
        decode.receive(answer(b'{"d":1}'))
        await rig.settle()
        sent = client.take()
        assert sent.endswith(b'{"d":1}')
        assert b"X-Router-Prefill-URL" not in sent
        assert b"X-Router-Decode-URL: http://10.0.0.101:8000" in sent
        assert 'fd_router_decode_alone_total{reason="prompts"} 1.0' in rig.telemetry.metrics.render().decode()
        rig.assert_nothing_is_held()

    async def test_its_tokens_are_given_back_with_the_first(self) -> None:
        rig = rig_of("push", 1, 1)
        client = rig.client()
        client.receive(post(b'{"prompt": "hello", "n": 2, "stream": true}'))
        await rig.settle()
        decode = busy(rig)
        assert rig.counts() == [(0, 0), (1, 10)]
        decode.receive(STREAM_HEAD + EVENT)
        await rig.settle()
        assert rig.counts() == [(0, 0), (1, 0)]
        decode.receive(STREAM_END)
        await rig.settle()
        rig.assert_nothing_is_held()

    async def test_it_needs_no_prefill_instance(self) -> None:
        rig = rig_of("pull", 0, 1)
        client = rig.client()
        client.receive(post(b'{"prompt": "hello", "n": 2}'))
        await rig.settle()
        busy(rig).receive(answer(b'{"d":1}'))
        await rig.settle()
        assert client.take().endswith(b'{"d":1}')
        client.receive(post(b'{"prompt": "hello"}'))
        await rig.settle()
        assert error_of(client.take())[0] == 503

    async def test_another_decode_instance_serves_it_when_the_first_fails(self) -> None:
        rig = rig_of("pull")
        client = rig.client()
        client.receive(post(b'{"prompt": "hello", "n": 2}'))
        await rig.settle()
        busy(rig).lose()
        await rig.settle()
        decode = busy(rig)
        assert decode.peer == ("10.0.0.102", 8000)
        decode.receive(answer(b'{"d":1}'))
        await rig.settle()
        assert client.take().endswith(b'{"d":1}')
        rig.assert_nothing_is_held()

    async def test_a_client_that_leaves(self) -> None:
        rig = rig_of("pull", 1, 1)
        client = rig.client()
        client.receive(post(b'{"prompt": "hello", "n": 2}'))
        await rig.settle()
        decode = busy(rig)
        client.lose()
        await rig.settle()
        assert decode.is_closing()
        rig.assert_nothing_is_held()


class TestBlame:
    """An error that decode answers may mean that prefill's cache couldn't be fetched."""

    async def fail_at_decode(self, rig: PairRig) -> FakeTransport:
        client = rig.client()
        client.receive(post(WHOLE))
        await rig.settle()
        busy(rig).receive(PREFILLED)
        await rig.settle()
        busy(rig).receive(FAILED)
        await rig.settle()
        return client

    async def finish(self, rig: PairRig, client: FakeTransport) -> str:
        """Have the attempt under way succeed; return its two hosts."""
        prefill = busy(rig)
        prefill.receive(PREFILLED)
        await rig.settle()
        decode = busy(rig)
        decode.receive(answer(b'{"d":1}'))
        await rig.settle()
        assert client.take().endswith(b'{"d":1}')
        rig.assert_nothing_is_held()
        return f"{prefill.peer[0]} {decode.peer[0]}"  # type: ignore[index]

    @pytest.mark.parametrize(
        ("prefills", "decodes", "then"),
        [(2, 2, "10.0.0.2 10.0.0.102"), (2, 1, "10.0.0.2 10.0.0.101"), (1, 2, "10.0.0.1 10.0.0.102")],
    )
    async def test_the_next_attempt_is_without_both_if_that_can_be(
        self, prefills: int, decodes: int, then: str
    ) -> None:
        rig = rig_of("pull", prefills, decodes)
        assert await self.finish(rig, await self.fail_at_decode(rig)) == then

    async def test_the_last_pair_has_failed(self) -> None:
        rig = rig_of("pull", 1, 1)
        client = await self.fail_at_decode(rig)
        assert client.take().startswith(b"HTTP/1.1 500")
        rig.assert_nothing_is_held()

    async def test_a_decode_that_is_lost_is_to_blame_itself(self) -> None:
        rig = rig_of("pull", 2, 2)
        client = rig.client()
        client.receive(post(WHOLE))
        await rig.settle()
        busy(rig).receive(PREFILLED)
        await rig.settle()
        busy(rig).lose()
        await rig.settle()
        assert rig.records[0].failed_attempts[0].outcome == "reset"
        assert (await self.finish(rig, client)).endswith("10.0.0.102")
