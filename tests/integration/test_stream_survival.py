"""Streams whose instance dies end whole: mock instances with faults, over real sockets; and one that is killed."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest

from tests.support.exact_engine import events_of
from tests.support.fleet import Fleet
from tests.support.http_client import CutOffError
from tests.support.mock_process import MockProcess
from tests.support.pd_fleet import CHAT, PdFleet
from tests.support.waiting import until

SAME = {"decode_ms_per_token": 2, "name": "same"}
CUT = "cut_mid_body:after_tokens=6,count=1"


def normal(body: bytes) -> list[dict[str, Any]]:
    """The events without what differs from answer to answer."""
    events = [json.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    assert len({event["id"] for event in events}) == 1
    for event in events:
        del event["id"], event["created"]
        (event.get("usage") or {}).pop("prompt_tokens_details", None)
    return events


def request(*, chat: bool, **more: Any) -> dict[str, Any]:
    prompt = {"messages": [{"role": "user", "content": "hello"}]} if chat else {"prompt": "hello"}
    return {**prompt, "max_tokens": 30, "stream": True, "stream_options": {"include_usage": True}, **more}


@pytest.mark.parametrize(
    "fault", [CUT, f"{CUT},how=fin", "error_event:after_tokens=6,count=1", "reschedule:after_tokens=6,count=1"]
)
@pytest.mark.parametrize(("chat", "tokens"), [(True, True), (False, True), (False, False)])
async def test_another_instance_goes_on(fault: str, chat: bool, tokens: bool) -> None:
    path = "/v1/chat/completions" if chat else "/v1/completions"
    body = request(chat=chat, **({"return_token_ids": True} if tokens else {}))
    async with PdFleet(mixed=3, mock=SAME) as fleet:
        whole = normal((await fleet.call("POST", path, body)).body)
        for mock in fleet.of("mixed")[:2]:  # whoever meets both finds the third one sound
            mock.set_faults(fault)
        answers = await asyncio.gather(*(fleet.call("POST", path, body) for _ in range(3)))
        estimated = 0
        for answer in answers:
            assert answer.body.endswith(b"data: [DONE]\n\n")
            found = normal(answer.body)
            if not tokens and "estimated" in found[-1]["usage"]:  # the prompt is counted in other tokens
                estimated += 1
                assert found[-1]["usage"]["completion_tokens"] == 30
                found[-1]["usage"] = whole[-1]["usage"]
            assert found == whole
        assert (estimated > 0) is not tokens
        assert await fleet.metric("fd_router_stream_continuations_total", 'outcome="continued"') == 2
        assert [mock.state()["misfits"] for mock in fleet.mocks.values()] == [0, 0, 0]
        assert await fleet.leftovers() == []


@pytest.mark.parametrize("pairs", [False, True])
async def test_exact_asks_for_ids_and_takes_them_out_again(pairs: bool) -> None:
    path, body = "/v1/chat/completions", request(chat=True)
    async with PdFleet(2, 2, mixed=0 if pairs else 3, mock=SAME) as fleet:
        whole = normal((await fleet.call("POST", path, body)).body)
    async with PdFleet(2, 2, mixed=0 if pairs else 3, mock=SAME, proxy={"continue_streams": "exact"}) as fleet:
        unbroken = await fleet.call("POST", path, body)
        assert normal(unbroken.body) == whole
        for mock in fleet.of("decode" if pairs else "mixed"):
            mock.set_faults(CUT)
        broken = await fleet.call("POST", path, body)
        assert normal(broken.body) == whole
        assert b"token_ids" not in unbroken.body + broken.body
        assert await fleet.metric("fd_router_stream_continuations_total", 'outcome="continued"') >= 1
        assert await fleet.leftovers() == []


async def test_a_chat_of_which_no_ids_are_known_breaks_visibly() -> None:
    """FastDeploy can't go on with a chat's text."""
    async with PdFleet(mixed=2, mock=SAME) as fleet:
        for mock in fleet.mocks.values():
            mock.set_faults("cut_mid_body:after_tokens=6")
        with pytest.raises(CutOffError):
            await fleet.call("POST", "/v1/chat/completions", request(chat=True))
        assert await fleet.metric("fd_router_stream_continuations_total", 'reason="engine"') == 1
        assert await fleet.leftovers() == []


async def test_the_engine_that_goes_on_by_text_counts_what_it_was_given() -> None:
    """Nobody waits for that: where the rest comes first, it is estimated."""
    body = request(chat=True, max_tokens=40)
    async with PdFleet(mixed=2, mock={**SAME, "dialect": "vllm"}) as fleet:
        for _ in range(20):
            for mock in fleet.mocks.values():
                mock.set_faults(CUT)
            usage = normal((await fleet.call("POST", CHAT, body)).body)[-1]["usage"]
            if "estimated" not in usage:
                break
            for mock in fleet.mocks.values():
                mock.set_faults()
        asked = [each for mock in fleet.mocks.values() for each in mock.requests() if each["path"] == "/tokenize"]
        assert asked
        assert "estimated" not in usage
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
        assert await fleet.leftovers() == []


async def test_another_pair_goes_on() -> None:
    body = request(chat=True, return_token_ids=True)
    async with PdFleet(2, 2, mock=SAME) as fleet:
        whole = normal((await fleet.call("POST", "/v1/chat/completions", body)).body)
        for number, form in enumerate(("cut_mid_body", "reschedule", "reschedule:form=error"), 1):
            fault, _, more = form.partition(":")
            for mock in fleet.of("decode"):
                mock.set_faults(f"{fault}:after_tokens=6,count=1{more and ','}{more}")
            assert normal((await fleet.call("POST", "/v1/chat/completions", body)).body) == whole
            for mock in fleet.of("decode"):
                mock.set_faults()
            assert await fleet.metric("fd_router_stream_continuations_total", 'outcome="continued"') >= number
        assert await fleet.leftovers() == []


async def test_streams_leave_an_instance_that_drains_at_its_deadline() -> None:
    body = request(chat=True, return_token_ids=True, max_tokens=80)
    async with PdFleet(mixed=2, mock={"decode_ms_per_token": 10, "name": "same"}) as fleet:
        whole = normal((await fleet.call("POST", CHAT, body)).body)
        asked = [asyncio.create_task(fleet.call("POST", CHAT, body)) for _ in range(4)]

        async def all_have_begun() -> bool:
            counted = [await fleet.metric(f"fd_router_instance_{what}") for what in ("running_requests", "tokens")]
            return counted == [4, 0]  # tokens are a prompt's until its answer begins

        leaving, other = fleet.of("mixed")
        await until(all_have_begun)
        path = f"/instances/127.0.0.1:{leaving.port}/drain?deadline_secs=0"
        entry = json.loads((await fleet.call("POST", path)).body)
        assert (entry["running"], entry["draining"]) == (2, True)
        assert [normal((await answer).body) for answer in asked] == [whole] * 4
        moved = 'outcome="continued",reason="drained"'
        assert await fleet.metric("fd_router_stream_continuations_total", moved) == 2
        assert other.state()["misfits"] == 0
        assert "its deadline is over: 2 streams went on elsewhere, 0 requests stay" in fleet.log
        assert await fleet.leftovers() == []


def test_an_instance_is_killed_in_the_middle_of_streams() -> None:
    mock = {"decode_ms_per_token": 10, "name": "same"}
    body = request(chat=True, return_token_ids=True, max_tokens=100)
    with Fleet(3, mock=mock) as fleet:
        whole = normal(httpx.post(f"{fleet.url}/v1/chat/completions", json=body, timeout=30).content)
        answers: list[bytes] = []

        begun = threading.Semaphore(0)

        def ask() -> None:
            with httpx.stream("POST", f"{fleet.url}/v1/chat/completions", json=body, timeout=60) as answer:
                pieces = answer.iter_raw()
                first = next(pieces)
                begun.release()
                answers.append(first + b"".join(pieces))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert begun.acquire(timeout=60)
        fleet.mocks[0].pause()  # so that none of its streams comes to its end before it is killed
        assert fleet.running(fleet.mocks[0]) > 0
        fleet.mocks[0].kill()
        for thread in threads:
            thread.join()
        assert [normal(answer) == whole for answer in answers] == [True] * 12
        assert fleet.metric("fd_router_stream_continuations_total", outcome="continued") >= 1


def test_the_events_of_a_mock_are_whole() -> None:
    """What these tests compare with."""
    with (
        MockProcess(**SAME) as mock,
        httpx.stream("POST", f"{mock.url}/v1/completions", json=request(chat=False), timeout=60) as answer,
    ):
        content = answer.read()
    assert events_of(b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))[-1] == {}


STREAMS = {
    "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 30, "stream": True},
    "/v1/responses": {"input": "hello", "max_output_tokens": 30, "stream": True},
}


@pytest.mark.parametrize("path", STREAMS)
async def test_streams_of_other_endpoints_break_visibly(path: str) -> None:
    async with PdFleet(mixed=2, mock=SAME) as fleet:
        for mock in fleet.mocks.values():
            mock.set_faults(f"{CUT},path={path}")
        with pytest.raises(CutOffError):
            await fleet.call("POST", path, STREAMS[path])
        assert await fleet.metric("fd_router_stream_continuations_total", 'reason="endpoint"') == 1
        assert "The stream can't go on at another instance: endpoint" in fleet.log
        assert await fleet.leftovers() == []
