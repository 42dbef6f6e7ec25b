"""Instances that die, refuse, reset: what clients must not notice, and what they must be told."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.mock_process import MockProcess
from tests.support.ports import free_port
from tests.support.raw_client import RawClient, request
from tests.support.scripted_instance import ScriptedInstance
from tests.support.waiting import until

SELDOM = {"manager": {"health-check-interval-secs": 60}}
"""Probes come too late to help: what is noticed is noticed while serving (and by the probe that this calls for)."""

FLEET = {"instances": 3}

BODY = json.dumps(chat(max_tokens=1)).encode()


def received(mocks):
    return [len(mock.completions()) for mock in mocks]


def errors(fleet, **labels):
    return fleet.metric("fd_router_upstream_errors_total", **labels)


@pytest.fixture(scope="module")
def fresh():
    """A fleet whose router opens a connection for every request: a kept one that breaks may be replaced unseen."""
    with Fleet(4, config={"proxy": {"pool-max-idle": 0}}) as fleet:
        yield fleet


def set_faults(fleet, *faults):
    for mock in fleet.mocks:
        mock.set_faults(*faults)


# before any byte of an answer: another instance


def test_a_reset_before_the_answer_is_tried_at_another_instance(fleet):
    retries = fleet.metric("fd_router_retries_total", reason="reset")
    fleet.mocks[0].set_faults("reset_before_head")
    fleet.mocks[1].set_faults("reset_before_head")
    assert fleet.ask()[0] == 200
    eventually(lambda: all(map(fleet.is_healthy, fleet.mocks)))
    for _ in range(10):
        assert fleet.ask()[0] == 200
        eventually(lambda: all(map(fleet.is_healthy, fleet.mocks)))
    assert fleet.metric("fd_router_retries_total", reason="reset") > retries


def test_three_instances_are_tried_once_each_and_then_502_says_why(fresh):
    set_faults(fresh, "reset_before_head")
    status, answer = fresh.ask()
    assert status == 502
    assert answer["error"]["code"] == "reset"
    assert answer["error"]["message"].startswith("Failed to connect to backend service: http://127.0.0.1:")
    assert sorted(received(fresh.mocks)) == [0, 1, 1, 1], "three attempts, each at another one"


def test_no_instance_is_tried_twice_before_each_was_tried():
    with Fleet(2, config={"proxy": {"pool-max-idle": 0}}) as fleet:
        set_faults(fleet, "reset_before_head")
        assert fleet.ask()[0] == 502
        assert min(received(fleet.mocks)) == 1  # a third attempt finds one of them only if a probe was faster
        assert sum(received(fleet.mocks)) <= 3


def test_an_answer_that_another_would_give_too_is_asked_for_once(fleet):
    """Only the client may decide to pay for another generation."""
    set_faults(fleet, "status:status=504")
    assert fleet.ask()[0] == 504
    assert sum(received(fleet.mocks)) == 1


def test_when_no_instance_has_room_the_last_answer_is_the_clients(fresh):
    set_faults(fresh, "status:status=503")
    assert fresh.ask()[0] == 503
    assert sorted(received(fresh.mocks)) == [0, 1, 1, 1], "three attempts, each at another one"


def test_an_answer_that_is_no_http_is_502_and_not_tried_again(fleet):
    set_faults(fleet, "garbage")
    status, answer = fleet.ask()
    assert (status, answer["error"]["code"]) == (502, "protocol")
    assert sum(received(fleet.mocks)) == 1


def test_a_request_is_the_same_at_every_attempt(fleet):
    fleet.mocks[0].set_faults("reset_before_head")
    fleet.mocks[1].set_faults("reset_before_head")
    seen = []
    for _ in range(40):
        with RawClient(fleet.port) as client:
            client.send(request("/v1/chat/completions?a=b", BODY, "X-Request-Id: again", "X-Kept: 1"))
            assert client.read().status == 200
        seen = [mock.completions() for mock in fleet.mocks]
        if sum(map(bool, seen)) > 1:
            break
        eventually(lambda: all(map(fleet.is_healthy, fleet.mocks)))
    kinds = {
        (one["method"], one["path"], one["query"], one["sha256"], dict(one["headers"])["x-request-id"])
        for each in seen
        for one in each
    }
    assert len(kinds) == 1
    assert sum(map(bool, seen)) > 1


# connections that were kept, and died


def test_kept_connections_that_die_are_never_noticed_by_clients(fleet):
    """The instance closes each connection right after its answer; a request is often on its way there by then."""
    set_faults(fleet, "close_idle")
    before = errors(fleet)

    def ask(times):
        with RawClient(fleet.port) as client:
            for _ in range(times):
                client.send(request("/v1/chat/completions", BODY))
                yield client.read().status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda times: list(ask(times)), [125] * 8))
    assert statuses == [[200] * 125] * 8
    assert errors(fleet) == before


def test_a_kept_connection_that_dies_under_a_request_is_replaced():
    """The instance takes the second request of each connection, and closes instead of an answer."""
    with ScriptedInstance() as instance, Fleet(0, ports=[instance.port], config=SELDOM) as fleet:
        instance.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        instance.answers = 1
        with RawClient(fleet.port) as client:
            for _ in range(10):
                client.send(request("/v1/chat/completions", BODY))
                assert client.read().body == b"ok"
        assert len(instance.heads) == 19, "no connection died under a request, so nothing was tested"
        assert errors(fleet) == 0
        assert fleet.is_healthy(instance)


# instances that die


def test_a_dead_instance_is_tried_once_and_not_chosen_again():
    with Fleet(2, config=SELDOM) as fleet:
        dead, alive = fleet.mocks
        dead.kill()
        for _ in range(60):
            assert fleet.ask()[0] == 200
        assert errors(fleet, instance=dead.url) == 1
        assert errors(fleet) == 1
        assert not fleet.is_healthy(dead)
        assert fleet.is_healthy(alive)
        assert fleet.metric("fd_router_retries_total", reason="refused") == 1


def test_all_instances_dead_is_502_and_then_says_that_there_is_none():
    with Fleet(2, config=SELDOM) as fleet:
        for mock in fleet.mocks:
            mock.kill()
        status, answer = fleet.ask()
        assert (status, answer["error"]["code"]) == (502, "refused")
        eventually(lambda: fleet.metric("fd_router_instances", health="unhealthy") == 2)
        status, answer = fleet.ask()
        assert (status, answer["error"]["code"]) == (502, "no_instance")
        assert answer["error"]["message"].startswith("Failed to select worker")


def test_an_instance_that_refuses_for_a_while_is_chosen_again_afterwards(fresh):
    one = fresh.mocks[0]
    one.set_faults("refuse:secs=0.7")
    eventually(lambda: not fresh.is_healthy(one))
    assert [fresh.ask()[0] for _ in range(10)] == [200] * 10
    eventually(lambda: fresh.is_healthy(one))
    eventually(lambda: fresh.ask()[0] == 200 and one.completions())


async def test_an_instance_killed_under_load_loses_no_request():
    """120 requests at three instances, one of which dies with dozens running."""
    with Fleet(3, mock={"decode_ms_per_token": 10}) as fleet:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=100), timeout=30) as client:

            async def one(number):
                body = json.dumps(chat(f"question {number}", max_tokens=100, model=f"m{number}"))
                answer = await client.post(f"{fleet.url}/v1/chat/completions", content=body)
                return answer.status_code, answer.json().get("model")

            tasks = [asyncio.create_task(one(number)) for number in range(120)]
            victim = fleet.mocks[1]
            await until(lambda: victim.state()["live"] > 10)
            victim.kill()
            answers = await asyncio.gather(*tasks)
        assert answers == [(200, f"m{number}") for number in range(120)]
        assert fleet.metric("fd_router_retries_total") > 0
        eventually(lambda: not fleet.is_healthy(victim))
        assert fleet.running(victim) == 0


async def test_a_killed_instances_streams_break_visibly_and_the_others_go_on():
    with Fleet(2, mock={"decode_ms_per_token": 5}) as fleet:
        victim, survivor = fleet.mocks
        texts = [b""] * 20
        async with httpx.AsyncClient(timeout=60) as client:

            async def one(number):
                body = json.dumps(chat(max_tokens=1_000_000, stream=True))  # until it is aborted
                try:
                    async with client.stream("POST", f"{fleet.url}/v1/chat/completions", content=body) as answer:
                        async for piece in answer.aiter_bytes():
                            texts[number] += piece
                except httpx.RemoteProtocolError:
                    assert not texts[number].endswith(b"[DONE]\n\n")
                    return "broken"
                assert texts[number].endswith(b"[DONE]\n\n"), "a stream that was cut off looked whole"
                return "whole"

            tasks = [asyncio.create_task(one(number)) for number in range(20)]
            await until(lambda: all(texts))
            at_victim = victim.state()["live"]
            victim.kill()
            await until(lambda: sum(task.done() for task in tasks) == at_victim)
            so_far = list(map(len, texts))
            await until(lambda: all(len(text) > 2 * size for task, text, size in zip(tasks, texts, so_far, strict=True)
                                    if not task.done()))  # fmt: skip
            survivor.call("POST", "/v1/abort_requests", {"abort_all": True})
            endings = await asyncio.gather(*tasks)
        assert endings.count("broken") == at_victim > 0
        assert endings.count("whole") == 20 - at_victim > 0


@pytest.mark.slow
def test_a_listed_instance_that_comes_late_dies_and_comes_back_serves_each_time():
    """The Go program registers register.yaml's instances once: one that isn't up yet, or died, is lost."""
    port = free_port()
    with Fleet(0) as empty:
        assert empty.ask()[1]["error"]["message"].startswith("Failed to select worker")
    with RevivedFleet(port) as fleet:
        status, answer = fleet.ask()
        assert (status, answer["error"]["code"]) == (502, "no_instance")
        for _ in range(2):
            mock = fleet.add(MockProcess(port=port, **QUICK))
            eventually(partial(fleet.is_healthy, mock))
            assert fleet.ask()[0] == 200
            mock.kill()
            assert fleet.ask()[0] == 502
            assert not fleet.is_healthy(mock)
            assert fleet.router.call("GET", "/registered_number")[1]["mixed"] == 0


class RevivedFleet(Fleet):
    """A router whose one listed instance isn't up yet."""

    def __init__(self, port):
        super().__init__(0, ports=[port])
        self.expected = 0
