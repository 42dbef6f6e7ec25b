"""Failures of a pair beside those of the fault matrix: given back, guilty in the end, aborted."""

import asyncio
import json

import pytest

from fd_router.devtools.mock.completions import token_id
from tests.support.http_client import Answer
from tests.support.pd_fleet import PdFleet, ask, asking
from tests.support.pd_mocks import FAST
from tests.support.waiting import until

ABORT = "/v1/abort_requests"


def message(answer):
    return json.loads(answer.body)["error"]["message"]


def sent(fleet, role):
    """Return the bodies that the instances of ``role`` got, in the order in which they came."""
    mocks = fleet.of(role)
    found = [each["body"] for mock in mocks for each in mock.requests() if each["path"].endswith("completions")]
    return sorted(map(json.loads, found), key=lambda value: value["request_id"])


async def clean(fleet):
    async def is_clean():
        return not await fleet.leftovers()

    await until(is_clean)


# Given back by decode.


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_rescheduled_request_goes_on_with_the_tokens_so_far(path):
    async with PdFleet(2, 2, mock=FAST) as fleet:
        for mock in fleet.of("decode"):
            mock.set_faults("reschedule:after_tokens=2,count=1")
        value = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "max_tokens": 8, "request_id": "mine"}
        answer = await fleet.call("POST", path, value)
        usage = json.loads(answer.body)["usage"]
        assert (answer.status, usage["completion_tokens"]) == (200, 8)
        assert b"pd_reschedule" not in answer.body
        for role in ("prefill", "decode"):
            told = [(each["request_id"], each.get("completion_token_ids")) for each in sent(fleet, role)]
            assert told == [
                ("mine", None),
                ("mine-retry1", [token_id(number) for number in (1, 2)]),
                ("mine-retry2", [token_id(number) for number in (1, 2, 3, 4)]),
            ]
        await clean(fleet)


async def test_a_request_is_rescheduled_three_times_at_most():
    async with PdFleet(1, 1, mock=FAST) as fleet:
        fleet.mocks["decode-1"].set_faults("reschedule:after_tokens=1")
        answer = await fleet.chat(max_tokens=50)
        assert answer.status == 200
        assert json.loads(answer.body)["choices"][0]["finish_reason"] == "pd_reschedule"
        ids = [each["request_id"] for each in sent(fleet, "decode")]
        assert ids == [ids[0], *[f"{ids[0]}-retry{number}" for number in (1, 2, 3)]]
        await clean(fleet)


async def test_a_pd_error_is_rescheduled():
    async with PdFleet(2, 2, mock=FAST) as fleet:
        fleet.mocks["decode-1"].set_faults("reschedule:form=error")
        assert (await fleet.chat()).status == 200
        await clean(fleet)


async def test_a_streams_reason_reaches_the_client():
    async with PdFleet(1, 1, mock=FAST) as fleet:
        fleet.mocks["decode-1"].set_faults("reschedule:after_tokens=2")
        answer = await fleet.chat(stream=True)
        assert answer.body.count(b'"finish_reason":"pd_reschedule"') == 1
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert len(sent(fleet, "decode")) == 1
        await clean(fleet)


# Guilty.


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_the_last_error_names_the_guilty_leg(role):
    async with PdFleet(2, 2, mock=FAST) as fleet:
        for mock in fleet.of(role):
            mock.set_faults("reset_before_head")
        answer = await fleet.chat()
        assert answer.status >= 500
        assert message(answer).startswith("Failed to connect to backend service")
        assert f"{role} instance" in message(answer)
        assert any(mock.url in message(answer) for mock in fleet.of(role))
        await clean(fleet)


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_an_error_object_at_a_streams_start_is_a_failure(role):
    async with PdFleet(2, 2, proxy={"prefill_timeout_secs": 2}, mock={**FAST, "kv_wait_secs": 30}) as fleet:
        fleet.mocks[f"{role}-1"].set_faults("error_event:after_tokens=0")
        answer = await fleet.chat(stream=True)
        assert answer.status == 200
        assert b'"error"' not in answer.body
        assert answer.headers[f"x-router-{role}-url"] == fleet.mocks[f"{role}-2"].url
        await clean(fleet)


async def test_a_prefill_that_dies_behind_a_stream_changes_nothing():
    async with PdFleet(1, 1) as fleet:
        prefill = fleet.mocks["prefill-1"]
        prefill.set_faults("slow:head_secs=30")
        async with asking(fleet.port, stream=True, max_tokens=30) as client:
            await client.read_some()
            await client.read_some()
            await prefill.stop()
            await client.read()
            assert client.is_whole
            assert b"[DONE]" in client.body
        await until(lambda: f"Prefill request failed for {prefill.url}" in fleet.log)
        assert await fleet.metric("fd_router_instance_running_requests") == 0


async def test_many_at_once_with_flaky_instances_are_answered_once_each():
    flaky = [
        "reset_before_head:probability=0.1",
        "status:status=500,probability=0.1",
        "slow:head_secs=0.05,probability=0.1",
    ]
    async with PdFleet(3, 3, proxy={"max_attempts": 10, "connect_timeout_secs": 10.0}, mock=FAST) as fleet:
        fleet.mocks["prefill-1"].set_faults(*flaky)
        fleet.mocks["decode-2"].set_faults(*flaky)
        clients = await asyncio.gather(*[ask(fleet.port, stream=index % 2 == 0) for index in range(200)])
        await asyncio.gather(*[client.read() for client in clients])
        assert [(client.status, client.answers) for client in clients] == [(200, 1)] * 200
        for client in clients:
            client.leave()
        await clean(fleet)
        assert sum(mock.state()["duplicates"] for mock in fleet.mocks.values()) == 0


# Aborted.


async def abort(fleet, **order):
    answer = await fleet.call("POST", ABORT, order)
    return answer.status, json.loads(answer.body)


async def running(fleet, number, role):
    await until(lambda: sum(mock.state()["running"] for mock in fleet.of(role)) == number)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kinds", [{"mixed": 2}, {}], ids=["mixed", "pairs"])
async def test_abort_by_id(kinds, stream):
    async with PdFleet(**kinds, mock={"decode_ms_per_token": 50}) as fleet:
        client = await ask(fleet.port, stream=stream, max_tokens=1000, request_id="mine")
        other = await ask(fleet.port, stream=stream, max_tokens=1000, request_id="other")
        await running(fleet, 2, "mixed" if kinds else "decode")
        status, value = await abort(fleet, req_ids=["mine", "nobody"])
        assert (status, value["status"], value["error_msg"]) == (200, "success", None)
        assert value["request_id"].startswith("control-")
        assert [entry["request_id"] for entry in value["result"]["aborted"]] == ["mine"]
        assert value["result"]["aborted"][0]["output_token_count"] >= 0
        assert value["result"]["not_found"] == ["nobody"]
        assert not value.get("errors")
        await client.read()
        assert client.answers == 1
        assert b'"abort' in client.body
        await running(fleet, 1, "mixed" if kinds else "decode")
        other.leave()
        client.leave()
        await clean(fleet)


@pytest.mark.parametrize("kinds", [{"mixed": 2}, {}], ids=["mixed", "pairs"])
async def test_abort_all(kinds):
    async with PdFleet(**kinds, mock={"decode_ms_per_token": 50}) as fleet:
        clients = [await ask(fleet.port, stream=True, max_tokens=1000, request_id=f"r{number}") for number in range(6)]
        await running(fleet, 6, "mixed" if kinds else "decode")
        status, value = await abort(fleet, abort_all=True)
        assert status == 200
        aborted = sorted(entry["request_id"] for entry in value["result"]["aborted"])
        assert aborted == [f"r{number}" for number in range(6)]
        assert value["result"]["not_found"] == []
        for client in clients:
            assert (await client.read()).answers == 1
            client.leave()
        await clean(fleet)


@pytest.mark.parametrize("kinds", [{"mixed": 2}, {}], ids=["mixed", "pairs"])
async def test_a_dead_instance_shows_up_among_the_errors(kinds):
    async with PdFleet(**kinds, mock=FAST) as fleet:
        dead = next(reversed(fleet.mocks.values()))
        dead.set_faults("refuse:secs=30")
        await asyncio.sleep(0.01)
        status, value = await abort(fleet, req_ids=["nobody"])
        assert status == 200
        assert value["result"]["not_found"] == ["nobody"]
        errors = value.get("errors") or value["result"].get("errors")
        assert [error["server"] for error in errors] == [dead.url]
        assert errors[0]["error"]


async def test_an_order_without_anybody_in_it_is_refused():
    async with PdFleet(1, 1) as fleet:
        for order in ({}, {"req_ids": []}, {"abort_all": False}):
            answer: Answer = await fleet.call("POST", ABORT, order)
            assert answer.status == 400


async def test_a_request_that_decode_gave_back_can_be_aborted():
    async with PdFleet(1, 1, mock={"decode_ms_per_token": 50}) as fleet:
        fleet.of("decode")[0].set_faults("reschedule:count=1,after_tokens=1")
        client = await ask(fleet.port, stream=False, max_tokens=1000, request_id="mine")
        decode = fleet.of("decode")[0]
        await until(lambda: '"mine-retry1"' in "".join(each.get("body", "") for each in decode.requests()))
        await running(fleet, 1, "decode")
        status, value = await abort(fleet, req_ids=["mine"])
        assert status == 200
        assert [entry["request_id"] for entry in value["result"]["aborted"]] == ["mine-retry1"]
        assert value["result"]["not_found"] == []
        assert (await client.read()).answers == 1
        client.leave()
        await clean(fleet)


async def test_how_often_it_is_rescheduled_is_an_option():
    async with PdFleet(1, 1, mock=FAST, proxy={"preempt_retry_count": 1}) as fleet:
        fleet.mocks["decode-1"].set_faults("reschedule:after_tokens=1")
        await fleet.chat(max_tokens=50)
        ids = [each["request_id"] for each in sent(fleet, "decode")]
        assert ids == [ids[0], f"{ids[0]}-retry1"]
        await clean(fleet)


@pytest.mark.parametrize(("decodes", "at_each"), [(1, [4]), (2, [2, 2])])
async def test_another_decode_instance_takes_what_was_given_back_while_there_is_one(decodes, at_each):
    scheduler = {"decode_policy": "cache_aware"}  # which would choose the same one again
    async with PdFleet(1, decodes, mock=FAST, scheduler=scheduler) as fleet:
        for mock in fleet.of("decode"):
            mock.set_faults("reschedule:after_tokens=1")
        await fleet.chat(max_tokens=50)
        reached = [sum(each["path"].endswith("completions") for each in mock.requests()) for mock in fleet.of("decode")]
        assert reached == at_each
        await clean(fleet)
