"""What the log tells of a pair's request, and what it doesn't."""

import json
import re
import uuid

import httpx
import pytest

from tests.support.pd_fleet import CHAT, PdFleet
from tests.support.pd_mocks import FAST


def lines_of(fleet, request_id):
    return [line for line in fleet.log.splitlines() if f"[request_id:{request_id}]" in line]


@pytest.mark.parametrize("extra", [{}, {"session_id": "s"}], ids=["bare", "session"])
async def test_an_id_that_the_router_made_is_in_every_line(extra):
    async with PdFleet(1, 1, mock=FAST, scheduler={"prefill_policy": "cache_aware"}) as fleet:
        answer = await fleet.chat(**extra)
        made = json.loads(answer.body)["id"].removeprefix("chatcmpl-")
        assert uuid.UUID(made).version == 4
        assert made == answer.headers["x-request-id"]  # one id for everything
        lines = lines_of(fleet, made)
        assert len(lines) >= 7
        session = r"\[session_id:s\] " if extra else ""
        for line in lines:
            assert re.search(rf"logger\.go:79: {session}\[request_id:", line), line


@pytest.mark.parametrize("extra", [{}, {"session_id": "s"}], ids=["bare", "session"])
async def test_it_stands_beside_the_clients_own_for_the_connection(extra):
    async with PdFleet(1, 1, mock=FAST, scheduler={"prefill_policy": "cache_aware"}) as fleet:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **extra}
        headers = {"x-request-id": "mine"}
        async with httpx.AsyncClient(timeout=60) as client:
            response = await client.post(f"http://127.0.0.1:{fleet.port}{CHAT}", json=body, headers=headers)
        assert response.headers["x-request-id"] == "mine"
        made = response.json()["id"].removeprefix("chatcmpl-")
        assert uuid.UUID(made).version == 4
        session = r"\[session_id:s\] " if extra else ""
        lines = lines_of(fleet, made)  # what the instances' logs have too
        assert len(lines) >= 6
        for line in lines:
            assert re.search(rf"logger\.go:79: {session}\[request_id:{made}\]", line), line
        assert not lines_of(fleet, "mine")


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_what_an_instance_says_of_its_failure_is_for_the_client_alone(role):
    async with PdFleet(1, 1, mock=FAST) as fleet:
        fleet.of(role)[0].set_faults("status:status=500")  # an engine's message may quote the prompt
        answer = await fleet.chat()
        url = fleet.of(role)[0].url
        told = f"Failed to connect to backend service: {role} instance {url}: status 500"
        assert (answer.status, json.loads(answer.body)["error"]["message"]) == (500, "injected fault: 500")
        assert f"{role.capitalize()} request failed for {url}: status 500\n" in fleet.log
        assert f"] {told}\n" in fleet.log
        assert "injected fault" not in fleet.log


@pytest.mark.parametrize(("form", "what"), [("finish", "pd_reschedule"), ("error", "PD Error")])
async def test_each_time_that_decode_gives_a_request_back_is_told(form, what):
    async with PdFleet(1, 1, mock=FAST) as fleet:
        fleet.of("decode")[0].set_faults(f"reschedule:after_tokens=1,form={form}")
        await fleet.chat()
        failures = [line for line in fleet.log.splitlines() if "Decode request failed for" in line]
        assert [what in line for line in failures] == [True] * 4
        assert failures[-1].endswith(f"{what} after 3 reschedules, which is the limit")


async def test_an_error_in_the_middle_of_a_stream_is_told():
    async with PdFleet(1, 1, mock=FAST) as fleet:
        fleet.of("decode")[0].set_faults("error_event:after_tokens=1")
        answer = await fleet.chat(stream=True)
        assert (answer.status, b"injected fault" in answer.body) == (200, True)
        url = fleet.of("decode")[0].url
        assert f"Decode request failed for {url}: an error in the middle of the stream\n" in fleet.log
        assert "Request completed with an error. The stream has an error in it\n" in fleet.log
        assert "successfully" not in fleet.log
        assert await fleet.metric("fd_router_leg_failures_total", 'role="decode"', 'reason="error_answer"') == 1
