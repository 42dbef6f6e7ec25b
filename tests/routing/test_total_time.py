"""The limit of a request's total time."""

from __future__ import annotations

import asyncio

import pytest

from fd_router.config.sections import Config
from fd_router.routing.total_time import ASLEEP_SECS, TotalTimeLimit, interval_secs
from fd_router.telemetry.record import RequestRecord
from tests.routing.test_single import error_of
from tests.support.live import live_config
from tests.support.rig import STREAM_HEAD, Rig, chunk, post


class Request:
    def __init__(self, started: float) -> None:
        self.record = RequestRecord("POST", "/", "", started)
        self.ended: list[float] = []

    def on_timed_out(self, seconds: float) -> None:
        self.ended.append(seconds)


@pytest.mark.parametrize(("limit", "ended"), [(0.0, [[], []]), (5.0, [[5.0], []]), (20.0, [[], []])])
def test_only_what_began_so_long_ago_ends(limit: float, ended: list[list[float]]) -> None:
    requests = [Request(10.0), Request(10.1)]
    live = live_config(proxy={"request_timeout_secs": limit})
    TotalTimeLimit(lambda: requests, live, lambda: 15.0).sweep()
    assert [request.ended for request in requests] == ended


async def test_a_bug_with_one_keeps_none_of_the_others() -> None:
    bugs: list[Exception] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context["exception"]))

    class Broken(Request):
        def on_timed_out(self, seconds: float) -> None:
            raise ZeroDivisionError

    requests = [Broken(10.0), Request(10.0)]
    live = live_config(proxy={"request_timeout_secs": 5.0})
    TotalTimeLimit(lambda: requests, live, lambda: 15.0).sweep()
    assert requests[1].ended == [5.0]
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


@pytest.mark.parametrize(("limit", "interval"), [(0.0, ASLEEP_SECS), (0.5, 0.05), (1800.0, 0.25)])
def test_a_limit_is_noticed_soon_and_none_costs_nothing(limit: float, interval: float) -> None:
    assert interval_secs(live_config(proxy={"request_timeout_secs": limit}).current) == interval
    assert interval_secs(Config()) == ASLEEP_SECS


async def test_before_an_answer_the_client_reads_504_and_the_instance_is_left() -> None:
    rig = Rig(1)
    client = rig.client()
    client.receive(post())
    await rig.settle()
    rig.state.proxied_requests()[0].on_timed_out(5.0)
    await rig.settle()
    told = "The request took longer than 5 s (proxy.request-timeout-secs)"
    assert error_of(client.take()) == (504, told)
    assert rig.instances[0].running == 0
    assert not rig.backend.live


async def test_in_the_middle_of_an_answer_the_stream_is_cut_off() -> None:
    rig = Rig(1)
    client = rig.client()
    client.receive(post())
    await rig.settle()
    rig.backend.live[0].receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
    await rig.settle()
    request = rig.state.proxied_requests()[0]
    request.on_timed_out(5.0)
    request.on_timed_out(5.0)  # too late
    assert client.is_closing()
    assert rig.instances[0].running == 0
    assert rig.outlet.text.count("The request took longer than 5 s") == 1
