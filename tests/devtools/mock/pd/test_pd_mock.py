"""Prefill and decode mock instances over real sockets, told of each other by hand-made bodies."""

import asyncio
import json

import pytest

from fd_router.devtools.mock.completions import token_id
from fd_router.devtools.mock.pd.kv_sender import LANES
from tests.support.http_client import fetch, send
from tests.support.pd_mocks import CHAT, body, both, info, instance, pair, post, state
from tests.support.ports import free_port
from tests.support.waiting import until


def text_of(answer):
    return json.loads(answer.body)["choices"][0]["message"]["content"]


def error_of(answer):
    return json.loads(answer.body)["error"]["message"]


async def nothing_left(*instances):
    async def nothing():
        for each in instances:
            now = await state(each)
            if any(now[key] for key in ("in_flight", "live", "running", "waiting", "kv_expected", "kv_held")):
                return False
        return True

    await until(nothing)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_pair_serves_a_request(stream):
    async with pair() as (prefill, decode):
        first, answer = await both(prefill, decode, body(info(prefill, decode), stream=stream))
        assert (first.status, answer.status) == (200, 200)
        if stream:
            assert first.body.count(b"data: ") == 4  # the role, a token, the reason, the end
            assert answer.body.count(b"data: ") == 8
        else:
            assert text_of(first) == "prefill"
            assert text_of(answer) == "decode reads the prompt,"
        assert (await state(decode))["kv_received"] == 1
        await nothing_left(prefill, decode)


async def test_decode_waits_for_its_own_prefill():
    async with pair() as (prefill, decode), instance("prefill") as other:
        waiting = asyncio.create_task(post(decode, body(info(prefill, decode))))
        assert (await post(other, body(info(other, decode)))).status == 200  # the same id, another instance
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await post(prefill, body(info(prefill, decode)))
        assert (await waiting).status == 200


async def test_a_cache_may_come_before_its_request():
    async with pair() as (prefill, decode):
        value = body(info(prefill, decode))
        assert (await post(prefill, value)).status == 200
        assert (await state(decode))["kv_held"] == 1
        assert (await post(decode, value)).status == 200
        await nothing_left(prefill, decode)


@pytest.mark.parametrize("stream", [False, True])
async def test_decode_gives_up_when_no_cache_comes(stream):
    async with pair(kv_wait_secs=0.05) as (prefill, decode):
        answer = await post(decode, body(info(prefill, decode), stream=stream))
        message = f"no KV cache came from prefill instance 127.0.0.1:{prefill.port} in time".encode()
        assert answer.status == (200 if stream else 500)
        assert message in answer.body
        assert answer.body.startswith(b'data: {"error":') is stream
        await nothing_left(prefill, decode)


WRONG_FOR_DECODE = [
    ({"prefill_ip": None}, "prefill_ip"),
    ({"decode_device_ids": None}, "decode_device_ids"),
    ({"decode_rdma_ports": None}, "decode_rdma_ports"),
    ({"transfer_protocol": None}, "transfer_protocol"),
    ({"decode_tp_size": None}, "decode_tp_size"),
    ({"decode_connector_port": "9000"}, "decode_connector_port"),
    ({"decode_connector_port": 1}, "127.0.0.1:1, mine"),
    ({"decode_ip": "127.0.0.2", "transfer_protocol": "rdma"}, "127.0.0.2"),
    ({"decode_ip": "localhost"}, "no IP address"),
    ({"prefill_connector_port": 0}, "prefill_connector_port is 0"),
    ({"decode_device_ids": [0]}, "decode_device_ids"),
    ({"decode_device_ids": []}, "decode_device_ids is []"),
    ({"decode_rdma_ports": ["7"]}, "decode_rdma_ports is ['7']"),
    ({"decode_tp_size": 2}, "decode_tp_size is 2, mine is 1"),
    ({"decode_tp_size": 0}, "decode_tp_size"),
    ({"transfer_protocol": "tcp"}, "transfer_protocol"),
    ({"prefill_ip": "10.0.0.1"}, "different hosts"),
    ({"surplus": 1}, "surplus"),
]


@pytest.mark.parametrize(("changes", "reason"), WRONG_FOR_DECODE)
async def test_decode_refuses_what_is_wrong(changes, reason):
    async with instance("decode") as decode:
        answer = await post(decode, body(info(9000, decode, **changes)))
        assert answer.status == 400
        assert error_of(answer).startswith("Invalid disaggregate_info: ")
        assert reason in error_of(answer).replace("`$.", "`").replace("`", "")
        assert (await state(decode))["refused_pairs"] == 1


async def test_prefill_refuses_what_is_wrong():
    async with instance("prefill", tp_size=4, transfer_protocol="rdma") as prefill:
        for changes, reason in [
            ({"prefill_connector_port": 1}, "mine"),
            ({"decode_tp_size": 2}, "neither 1 nor mine, 4"),
            ({"transfer_protocol": "ipc"}, "'ipc' is not among mine"),
        ]:
            answer = await post(prefill, body(info(prefill, 9000, **{"transfer_protocol": "rdma", **changes})))
            assert answer.status == 400
            assert reason in error_of(answer)


async def test_the_other_keys_are_needed_once():
    async with instance("decode", known_prefill=("127.0.0.1:9001",)) as decode:
        good = json.dumps(body(info(9001, decode))).encode()
        unknown = body(info(9000, decode))
        assert "not known" in error_of(await post(decode, unknown))
        assert "required" in error_of(await post(decode, {"messages": [{"role": "user", "content": "x"}]}))
        for request_id in (None, "", 7):
            assert "request_id" in error_of(await post(decode, body(info(9001, decode), request_id)))
        for twice in (b'"request_id": "r2"', b'"disaggregate_info": {}'):
            assert "is there 2 times" in error_of(await post(decode, good[:-1] + b", " + twice + b"}"))
        nested = body(info(9000, decode), metadata={"request_id": "x", "disaggregate_info": {}})
        assert "not known" in error_of(
            await post(decode, nested)
        )  # the last of the checks: two keys, not of one object


async def test_a_request_sent_twice_is_refused():
    async with pair() as (prefill, decode):
        value = body(info(prefill, decode))
        waiting = asyncio.create_task(post(decode, value))
        await until(lambda: decode._stats.live)
        answer = await post(decode, value)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (409, "duplicate")
        assert (await state(decode))["duplicates"] == 1
        await post(prefill, value)
        assert (await waiting).status == 200


async def test_a_request_sent_again_after_a_hang_up_is_not_sent_twice():
    async with pair() as (prefill, decode):
        value = body(info(prefill, decode))
        first = asyncio.create_task(post(decode, value))
        await until(lambda: decode._stats.live)
        first.cancel()
        assert [each.status for each in await both(prefill, decode, value)] == [200, 200]
        await nothing_left(prefill, decode)


async def test_a_decode_instance_that_is_not_there_fails_the_prefill():
    async with instance("prefill") as prefill:
        gone = free_port()
        answer = await post(prefill, body(info(prefill, gone)))
        assert answer.status == 500
        assert f"KV transfer failed: 127.0.0.1:{gone}: connection refused" in error_of(answer)
        answer = await post(prefill, body(info(prefill, gone), stream=True))
        assert (answer.status, answer.body[:15]) == (200, b'data: {"error":')


async def test_a_kept_link_that_was_closed_is_opened_again():
    async with pair(keep_alive_secs=0.3) as (prefill, decode):
        for number in range(2):
            await asyncio.sleep(0.5 * number)
            answers = await both(prefill, decode, body(info(prefill, decode), f"r{number}"))
            assert [each.status for each in answers] == [200, 200]


async def test_caches_come_at_a_port_of_their_own():
    port = free_port()
    async with pair(connector_port=port) as (prefill, decode):
        answers = await both(prefill, decode, body(info(prefill, port)))
        assert [each.status for each in answers] == [200, 200]
        assert (await fetch("127.0.0.1", port, "GET", "/health")).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_prefill_head_does_not_hold_decode_up(stream):
    async with pair(["slow:head_secs=1"]) as (prefill, decode):
        value = body(info(prefill, decode), stream=stream)
        slow = asyncio.create_task(post(prefill, value))
        assert (await post(decode, value)).status == 200
        assert not slow.done()
        assert (await state(prefill))["in_flight"] == 1
        assert (await slow).status == 200
        await nothing_left(prefill, decode)


@pytest.mark.parametrize("stream", [False, True])
async def test_legs_that_are_closed_leave_nothing(stream):
    async with pair(["slow:head_secs=5"], decode_ms_per_token=100) as (prefill, decode):
        value = body(info(prefill, decode), stream=stream, max_tokens=100)
        legs = [asyncio.create_task(post(each, value)) for each in (prefill, decode)]

        async def decoding():
            return (await state(decode))["running"] == 1

        await until(decoding)
        for leg in legs:
            leg.cancel()
        await nothing_left(prefill, decode)
        assert (await state(prefill))["disconnected"] == (await state(decode))["disconnected"] == 1


async def test_a_prefill_that_is_closed_withdraws_its_cache():
    async with pair(["slow:head_secs=5"]) as (prefill, decode):
        leg = asyncio.create_task(post(prefill, body(info(prefill, decode))))

        async def held():
            return (await state(decode))["kv_held"] == 1

        await until(held)
        leg.cancel()
        await nothing_left(prefill, decode)


class SlowSender:
    """Takes messages, and answers when the test says so."""

    def __init__(self):
        self.messages = []

    def post(self, host, port, message, on_answer):
        self.messages.append((json.loads(message), on_answer))

    def close(self):
        pass


async def test_a_cache_is_withdrawn_after_it_has_arrived():
    """Messages may overtake each other: one that is withdrawn before it comes would be kept for nobody."""
    async with pair() as (prefill, decode):
        prefill._pd._sender = sender = SlowSender()
        leg = asyncio.create_task(post(prefill, body(info(prefill, decode))))
        await until(lambda: sender.messages)
        leg.cancel()
        await until(lambda: prefill._stats.disconnected)
        assert len(sender.messages) == 1
        sender.messages[0][1]("")
        assert [message["drop"] for message, _ in sender.messages] == [False, True]


async def test_many_caches_go_over_few_connections():
    async with pair(prefill_tokens_per_sec=1e9) as (prefill, decode):
        values = [body(info(prefill, decode), f"r{number}") for number in range(4 * LANES)]
        answers = await asyncio.gather(*[both(prefill, decode, value) for value in values])
        assert {answer.status for pair in answers for answer in pair} == {200}
        assert (await state(decode))["accepted"] <= len(values) + LANES + 2
        await nothing_left(prefill, decode)


@pytest.mark.parametrize("fault", ["reset_before_head", "status:status=500", "hang_before_head"])
async def test_a_decode_that_fails_at_once_keeps_no_cache(fault):
    async with pair((), [fault]) as (prefill, decode):
        value = body(info(prefill, decode))
        decoding = asyncio.create_task(post(decode, value))
        await until(lambda: decode._faults.struck)
        assert (await post(prefill, value)).status == 200
        decoding.cancel()
        await asyncio.gather(decoding, return_exceptions=True)
        await nothing_left(prefill, decode)


async def test_pd_reschedule_and_the_tokens_so_far():
    async with pair((), ["reschedule:after_tokens=2,count=2"]) as (prefill, decode):
        _, answer = await both(prefill, decode, body(info(prefill, decode)))
        choice = json.loads(answer.body)["choices"][0]
        ids = choice["message"]["completion_token_ids"]
        assert (choice["finish_reason"], ids) == ("pd_reschedule", [token_id(1), token_id(2)])
        again = body(info(prefill, decode), "r1-retry1", completion_token_ids=ids)
        ids = json.loads((await both(prefill, decode, again))[1].body)["choices"][0]["message"]["completion_token_ids"]
        assert ids == [token_id(number) for number in (1, 2, 3, 4)]
        again = body(info(prefill, decode), "r1-retry2", completion_token_ids=ids)
        _, answer = await both(prefill, decode, again)
        assert text_of(answer) == "decode reads the prompt,"
        assert json.loads(answer.body)["usage"]["completion_tokens"] == 5
        wrong = body(info(prefill, decode), "r2", completion_token_ids=[1])
        assert "not the first tokens" in error_of(await post(decode, wrong))
        await nothing_left(prefill, decode)


async def test_pd_reschedule_of_a_completion_and_of_a_stream():
    async with pair((), ["reschedule:after_tokens=1"]) as (prefill, decode):
        value = body(info(prefill, decode), prompt="x")
        answer = (await asyncio.gather(*[post(each, value, "/v1/completions") for each in (prefill, decode)]))[1]
        assert json.loads(answer.body)["choices"][0]["completion_token_ids"] == [token_id(1)]
        _, answer = await both(prefill, decode, body(info(prefill, decode), stream=True))
        assert answer.body.count(b'"finish_reason":"pd_reschedule"') == 1


async def test_a_pd_error():
    async with pair((), ["reschedule:form=error"]) as (prefill, decode):
        _, answer = await both(prefill, decode, body(info(prefill, decode)))
        assert answer.status == 500
        assert error_of(answer).startswith("PD Error")


async def test_an_error_in_the_middle_of_a_stream():
    async with instance("mixed", "error_event:after_tokens=2") as mixed:
        value = {"messages": [{"role": "user", "content": "x"}], "stream": True}
        answer = await post(mixed, value)
        assert answer.body.count(b'"content":') == 3
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert answer.body.count(b'data: {"error":') == 1
        assert (await post(mixed, {**value, "stream": False})).status == 500


async def test_an_abort_ends_a_decode_that_waits():
    async with pair() as (prefill, decode):
        async with await send(
            "127.0.0.1", decode.port, "POST", CHAT, body=json.dumps(body(info(prefill, decode), stream=True)).encode()
        ) as answer:
            result = json.loads((await post(decode, {"req_ids": ["r1"]}, "/v1/abort_requests")).body)["result"]
            assert result == {"aborted": [{"request_id": "r1", "output_token_count": 0}], "not_found": []}
            assert b'"finish_reason":"abort"' in await answer.read()
        await nothing_left(prefill, decode)


async def test_only_decode_takes_caches():
    async with pair() as (prefill, decode), instance("mixed") as mixed:
        assert (await post(mixed, {}, "/mock/kv")).status == 404  # it has no such path
        assert (await post(prefill, {}, "/mock/kv")).status == 400
        assert (await post(decode, {"request_id": 1}, "/mock/kv")).status == 400
        assert "name" in await state(mixed)


async def test_bodies_are_remembered_on_demand():
    async with instance("mixed", record_bodies=True) as mixed:
        data = b'{"messages": [{"role": "user", "content": "x"}],  "seed": 12345678901234567890}'
        await post(mixed, data)
        answer = await fetch("127.0.0.1", mixed.port, "GET", "/mock/requests")
        assert json.loads(answer.body)["requests"][0]["body"] == data.decode()
