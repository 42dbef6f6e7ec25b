"""The replay against a mock instance over real sockets, in this process."""

import asyncio
import json

import pytest

from fd_router.devtools.replay.replay import Replay, ReplayError, Target, body_of
from fd_router.devtools.router_address import RouterAddress
from fd_router.devtools.traces.trace import TraceRequest
from tests.devtools.mock.test_instance import mock, state
from tests.support.http_client import fetch
from tests.support.ports import free_port
from tests.support.waiting import until


def requests(number, every=0.0, tokens=1000):
    return [TraceRequest(n + 1, n * every, tokens, 3, [1, 2], 512) for n in range(number)]


async def replayed(instance, trace, **options):
    target = Target(RouterAddress.parse(instance.url), for_mocks=True)
    return await asyncio.wait_for(Replay(trace, target, **options).run("run"), 20)


async def test_all_are_served_and_measured():
    async with mock(prefill_tokens_per_sec=50_000) as instance:
        heard = []
        replay = Replay(requests(20, 0.01), Target(RouterAddress.parse(instance.url), for_mocks=True))
        result = await replay.run("run", heard.append)
        summary = result.summary()
        assert (summary.requests, summary.failures, heard[-1]) == (20, 0, 20)
        assert {each.instance for each in result.outcomes} == {"mock-a"}
        # The first takes 20 ms; the others have all but one token in the cache.
        assert [each.cached_tokens for each in result.outcomes][:1] == [0]
        assert result.outcomes[-1].cached_tokens == 999
        assert result.outcomes[0].ttft >= 0.02
        assert all(each.seconds >= each.ttft for each in result.outcomes)
        assert summary.hit_rate == pytest.approx(19 * 999 / 20_000)


async def test_connections_are_used_again():
    async with mock() as instance:
        await replayed(instance, requests(10, 0.05))
        assert (await state(instance))["accepted"] < 10  # 3, or some more where a busy machine sends several at once


async def test_an_open_loop_does_not_wait_for_answers():
    async with mock(prefill_tokens_per_sec=5_000) as instance:
        trace = [TraceRequest(n, 0.01 * n, 1000, 1, [], 512) for n in range(4)]
        result = await replayed(instance, trace)
        # 200 ms each, one after the other, while they are due within 30 ms; a busy machine only adds to that.
        for number, each in enumerate(result.outcomes):
            assert 0.2 * (number + 1) - 0.01 * number <= each.ttft <= result.took_secs - each.at


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:status=503", "503"),
        ("cut_mid_body:after_tokens=1", "connection lost"),
        ("error_event:after_tokens=1", "error event internal_error"),
        ("garbage", "not HTTP/1.1"),
        ("reset_before_head", "connection lost"),
    ],
)
async def test_failures_are_counted_by_name(fault, error):
    async with mock(fault) as instance:
        summary = (await replayed(instance, requests(3))).summary()
        assert summary.failures == 3
        assert list(summary.errors.values()) == [3]
        assert next(iter(summary.errors)).startswith(error)


async def test_a_connection_closed_while_idle_costs_no_request():
    async with mock("close_idle") as instance:
        assert (await replayed(instance, requests(6, 0.05))).summary().failures == 0


async def test_what_takes_too_long_is_given_up():
    async with mock("hang_before_head") as instance:
        result = await replayed(instance, requests(3), timeout_secs=0.1)
        assert result.summary().errors == {"timeout": 3}
        assert (await state(instance))["connections"] == 1  # only this one


async def test_it_can_be_stopped():
    async with mock("hang_before_head:count=1") as instance:
        replay = Replay(requests(1000, 0.02), Target(RouterAddress.parse(instance.url)))
        task = asyncio.create_task(replay.run("run"))
        await until(lambda: len(replay._outcomes) > 1)
        replay.stop()
        result = await task
        assert 1 < len(result.outcomes) < 1000
        assert set(result.summary().errors) == {"interrupted"}  # one, and whatever was on its way just then


async def test_nobody_listens():
    with pytest.raises(ReplayError, match="start the router first"):
        await Replay(requests(1), Target(RouterAddress.parse(f"127.0.0.1:{free_port()}"))).run("run")


def test_bodies():
    target = Target(RouterAddress.parse("a:1"), model="m", extra={"ignore_eos": True, "model": "x"})
    body = json.loads(body_of(requests(1)[0], target))
    assert len(body["messages"][0]["content"]) == 3999
    assert (body["max_tokens"], body["stream"], body["ignore_eos"], body["model"]) == (3, True, True, "x")
    assert "mock_hash_ids" not in body
    body = json.loads(body_of(requests(1)[0], Target(RouterAddress.parse("a:1"), "/v1/completions", for_mocks=True)))
    assert (len(body["prompt"]), body["mock_hash_ids"], body["mock_input_length"]) == (3999, [1, 2], 1000)


async def test_headers_are_sent():
    async with mock(record_bodies=True) as instance:
        target = Target(RouterAddress.parse(instance.url), headers={"authorization": "Bearer x"})
        await Replay(requests(1), target).run("run")
        answer = await fetch("127.0.0.1", instance.port, "GET", "/mock/requests")
        assert b"Bearer x" in answer.body
