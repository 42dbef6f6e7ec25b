"""Which pair serves a request, and what the pair and the client are told."""

import asyncio
import hashlib
import json
import re
import uuid

import pytest

from tests.support.pd_fleet import CHAT, PdFleet, ask, asking
from tests.support.pd_mocks import FAST
from tests.support.waiting import until


def message(answer):
    return json.loads(answer.body)["error"]["message"]


def bodies(mock):
    return [each["body"] for each in mock.requests() if each["path"].endswith("completions")]


async def test_both_get_the_same_body_and_the_client_gets_decodes_answer():
    async with PdFleet(1, 1, mock=FAST) as fleet:
        answer = await fleet.chat()
        prefill, decode = fleet.mocks.values()
        assert answer.status == 200
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == "decode-1 reads the prompt,"
        assert answer.headers["x-router-prefill-url"] == prefill.url
        assert answer.headers["x-router-decode-url"] == decode.url
        assert len(bodies(prefill)) == 1
        assert bodies(prefill) == bodies(decode)
        assert uuid.UUID(json.loads(bodies(decode)[0])["request_id"]).version == 4
        await fleet.call("POST", "/v1/completions", {"prompt": "x", "request_id": "mine"})
        assert json.loads(bodies(prefill)[1])["request_id"] == "mine"
        await until(lambda: not prefill.state()["in_flight"])
        assert await fleet.leftovers() == []


async def test_the_pair_can_be_kept_secret():
    async with PdFleet(1, 1, mock=FAST, proxy={"expose_instances": False}) as fleet:
        assert "x-router" not in " ".join((await fleet.chat()).headers)


SPLICED = [
    b'{"messages":[{"role":"user","content":"a"}]}',
    b'{ "seed" : 12345678901234567890123,\n "z":1.0E-2, "messages":[{"role":"user","content":"\\u00e9\\/ \xc3\xa9"}] }',
    b'{"b":{"request_id":"inner","disaggregate_info":{"x":["}"]}},"messages":[{"role":"user","content":"a"}],"a":-0.0}',
]
OWN = re.compile(r'"disaggregate_info":\{[^}]*\},"request_id":"[^"]*",?')


@pytest.mark.parametrize("data", SPLICED)
async def test_a_body_is_spliced_not_encoded_again(data):
    async with PdFleet(1, 1, mock=FAST) as fleet:
        assert (await fleet.call("POST", CHAT, data)).status == 200
        for mock in fleet.mocks.values():
            rest, number = OWN.subn("", bodies(mock)[0], count=1)
            assert number == 1
            assert hashlib.sha256(rest.encode()).digest() == hashlib.sha256(data).digest()


async def test_a_clients_own_disaggregate_info_is_replaced():
    data = (
        b'{"disaggregate_info": {"decode_ip": "6.6.6.6"}, "big": 9007199254740993,'
        b' "messages": [{"role": "user", "content": "a"}], "disaggregate_\\u0069nfo": 1,  "request_id": "r-7"}'
    )
    async with PdFleet(1, 1, mock=FAST) as fleet:
        assert (await fleet.call("POST", CHAT, data)).status == 200  # the mocks refuse two keys of one name
        for mock in fleet.mocks.values():
            text = bodies(mock)[0]
            value = json.loads(text, object_pairs_hook=list)
            assert [key for key, _ in value].count("disaggregate_info") == 1
            assert [key for key, _ in value if key != "disaggregate_info"] == ["big", "messages", "request_id"]
            assert "6.6.6.6" not in text
            assert '"big": 9007199254740993, "messages": [{"role": "user", "content": "a"}],' in text
            assert json.loads(text)["request_id"] == "r-7"


async def test_the_first_byte_does_not_wait_for_prefill():
    async with PdFleet(1, 1) as fleet:
        prefill, decode = fleet.mocks.values()
        prefill.set_faults("slow:head_secs=1")
        async with asking(fleet.port, stream=True, max_tokens=10) as client:
            await client.read_some()
            assert client.status == 200
            assert b"decode-1" in client.body or await client.read_some()
            assert (decode.state()["live"], prefill.state()["live"]) == (1, 1)  # both still at work
            await client.read()
            assert client.is_whole
            assert prefill.state()["in_flight"] == 1  # drained, after the client's answer is complete
        await until(lambda: prefill.state()["finished"] == 1)
        await until(lambda: not prefill.state()["in_flight"])
        assert prefill.state()["disconnected"] == 0
        assert await fleet.leftovers() == []


async def test_nobody_there_is_told_with_counts_and_when_to_come_back():
    async with PdFleet(0, 0) as fleet:
        answer = await fleet.chat()
        assert answer.status == 503
        assert message(answer).startswith("No available prefill/decode workers")
        assert "0 healthy prefill and 0 healthy decode" in message(answer)
        assert int(answer.headers["retry-after"]) > 0
    async with PdFleet(1, 0) as fleet:
        assert "1 healthy prefill and 0 healthy decode" in message(await fleet.chat())
    async with PdFleet(0, 2) as fleet:
        assert "0 healthy prefill and 2 healthy decode" in message(await fleet.chat(stream=True))


async def test_paused_instances_get_nothing_new():
    async with PdFleet(2, 2, mock=FAST) as fleet:
        await fleet.register("prefill-1", is_paused=True)
        await fleet.register("decode-2", is_paused=True)
        for _ in range(4):
            answer = await fleet.chat()
            pair = answer.headers["x-router-prefill-url"], answer.headers["x-router-decode-url"]
            assert pair == (fleet.mocks["prefill-2"].url, fleet.mocks["decode-1"].url)
        await fleet.register("prefill-2", is_paused=True)
        answer = await fleet.chat()
        assert (answer.status, "0 healthy prefill" in message(answer)) == (503, True)
        for name in ("prefill-1", "prefill-2", "decode-2"):
            assert f"{fleet.mocks[name].url} is paused" in message(answer)
        await fleet.register("prefill-1")
        assert (await fleet.chat()).headers["x-router-prefill-url"] == fleet.mocks["prefill-1"].url


@pytest.mark.parametrize(
    ("odd", "even"), [({"tp_size": 4}, {"tp_size": 2}), ({"version": "2.1"}, {"version": "2.2"})], ids=["tp", "version"]
)
async def test_only_instances_that_fit_are_paired(odd, even):
    singles = {"prefill_1": odd, "decode_1": even, "prefill_2": even, "decode_2": odd}
    async with PdFleet(2, 2, mock=FAST, **singles) as fleet:
        seen = set()
        for _ in range(6):
            answer = await fleet.chat()
            assert answer.status == 200
            seen.add((answer.headers["x-router-prefill-url"], answer.headers["x-router-decode-url"]))
        url = {name: mock.url for name, mock in fleet.mocks.items()}
        assert seen == {(url["prefill-1"], url["decode-2"]), (url["prefill-2"], url["decode-1"])}
    async with PdFleet(1, 1, prefill_1=odd, decode_1=even) as fleet:
        answer = await fleet.chat()
        assert answer.status == 503
        assert "fit together" in message(answer)


async def test_a_decode_instance_of_tp_size_1_fits_any_prefill():
    async with PdFleet(1, 1, mock=FAST, prefill_1={"tp_size": 8}) as fleet:
        assert (await fleet.chat()).status == 200


async def test_rdma_when_one_of_the_two_knows_no_ipc():
    async with PdFleet(1, 1, mock=FAST, prefill_1={"transfer_protocol": "rdma"}) as fleet:
        assert (await fleet.chat()).status == 200
        assert json.loads(bodies(fleet.mocks["decode-1"])[0])["disaggregate_info"]["transfer_protocol"] == "rdma"


async def test_what_dashboards_see_of_a_pair():
    async with PdFleet(2, 2, mock=FAST) as fleet:
        fleet.mocks["prefill-1"].set_faults("status:status=500")
        assert (await fleet.chat(stream=True)).status == 200
        url = {name: mock.url for name, mock in fleet.mocks.items()}
        pair = (f'prefill_worker="{url["prefill-2"]}"', 'decode_worker="http', 'status_code="200"')
        assert await fleet.metric("inference_requests_total", *pair) == 1
        assert await fleet.metric("fd_router_leg_failures_total", 'role="prefill"') == 1
        assert await fleet.metric("fd_router_retries_total") == 1
        for role in ("prefill", "decode"):
            name = "fd_router_leg_time_to_first_token_seconds_count"
            assert await fleet.metric(name, f'role="{role}"') == 1


async def test_a_client_that_does_not_read_holds_decode_up():
    tokens = 120_000  # 26 MB: the system's own buffers on the way may take 14 of them
    async with PdFleet(1, 1, mock={"decode_ms_per_token": 0.001}) as fleet:
        client = await ask(fleet.port, stream=True, max_tokens=tokens, receive_buffer=65_536)
        decode = fleet.mocks["decode-1"]
        await until(lambda: decode.state()["finished"] == 1)
        before = -1
        while (unsent := decode.state()["unsent_bytes"]) != before:  # until nothing moves any more
            before = unsent
            await asyncio.sleep(0.1)
        assert unsent > 1_000_000  # what the client doesn't take stays where it was made
        await client.read()
        client.leave()
        assert client.is_whole
        assert client.body.count(b'"content":"') == tokens + 1
