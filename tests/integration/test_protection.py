"""Instances are given no more than they take, and nothing while they fail."""

import asyncio
import re

import httpx

from tests.support.clients import PATIENT
from tests.support.fleet import Fleet, chat, eventually
from tests.support.kill_one import Plan, run_kills
from tests.support.mock_process import MockProcess
from tests.support.waiting import until

SLOW = {"decode_ms_per_token": 20}


async def ask_at_once(fleet, number, **more):
    """Send ``number`` requests at one time and return their answers."""
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=number)) as client:
        url = f"{fleet.url}/v1/chat/completions"
        return await asyncio.gather(*(client.post(url, json=chat(**more)) for _ in range(number)))


async def test_no_instance_gets_more_than_its_limit():
    config = {
        "manager": PATIENT,
        "protection": {"max-requests-per-instance": 3},
        "scheduler": {"policy": "random"},
    }
    with Fleet(2, mock=SLOW, config=config) as fleet:
        for mock in fleet.mocks:
            mock.pause()
        try:
            asking = asyncio.create_task(ask_at_once(fleet, 12, max_tokens=10))
            await until(lambda: fleet.metric("fd_router_queued_requests") == 6)
            assert [fleet.running(mock) for mock in fleet.mocks] == [3, 3]
        finally:
            for mock in fleet.mocks:
                mock.resume()
        most = 0
        while not asking.done():
            states = await asyncio.gather(*(asyncio.to_thread(mock.state) for mock in fleet.mocks))
            most = max(most, *(state["live"] for state in states))
        assert [answer.status_code for answer in await asking] == [200] * 12, "what found no room waited for it"
        assert most <= 3


OPEN_SECS = 4  # far longer than the requests take that must come before it is over
BREAKER = {
    "protection": {"breaker-failures": 3, "breaker-open-secs": OPEN_SECS},
    "scheduler": {"policy": "round_robin"},
}


def circuit(fleet, mock):
    """Return 0 for a closed circuit, 1 for a half-open one, 2 for an open one."""
    return fleet.metric("fd_router_instance_circuit", instance=mock.url)


def test_an_instance_that_answers_500_gets_no_requests_until_a_trial_succeeds():
    with Fleet(3, config=BREAKER) as fleet:
        bad = fleet.mocks[0]
        bad.set_faults("status:status=500")
        assert [fleet.ask()[0] for _ in range(9)] == [200] * 9  # they went to another one
        assert circuit(fleet, bad) == 2
        bad.set_faults()  # a trial succeeds, however soon it comes
        before = len(bad.completions())
        assert [fleet.ask()[0] for _ in range(12)] == [200] * 12
        assert len(bad.completions()) == before or circuit(fleet, bad) != 2
        eventually(lambda: circuit(fleet, bad) != 2)
        eventually(lambda: fleet.ask()[0] == 200 and circuit(fleet, bad) == 0)
        assert fleet.metric("fd_router_circuit_openings_total", instance=bad.url) == 1
        eventually(lambda: f"Circuit of {bad.url} closed: status 200" in fleet.router.log)
        opened = f"Circuit of {bad.url} opened: 3 failures in a row, the last one: status 500; no requests for "
        assert opened in fleet.router.log
        (waited,) = re.findall(rf"Circuit of {bad.url} half-open after ([0-9.]+) s", fleet.router.log)
        assert OPEN_SECS / 2 < float(waited) < OPEN_SECS * 20  # it is looked at when somebody asks, however late


def test_bad_requests_open_nothing():
    with Fleet(3, config=BREAKER) as fleet:
        fleet.mocks[0].set_faults("status:status=422")
        assert sorted(fleet.ask()[0] for _ in range(12)) == [200] * 8 + [422] * 4
        assert fleet.metric("fd_router_instance_circuit") == 0


def test_an_instance_without_room_is_left_alone_and_no_failure():
    with Fleet(3, config=BREAKER) as fleet:
        fleet.mocks[0].set_faults("status:status=429")
        assert [fleet.ask()[0] for _ in range(12)] == [200] * 12
        assert fleet.metric("fd_router_instance_circuit") == 0


def test_a_fleet_that_fails_as_a_whole_keeps_half_of_itself():
    with Fleet(4, config=BREAKER) as fleet:
        for mock in fleet.mocks:
            mock.set_faults("status:status=500")
        assert [fleet.ask()[0] for _ in range(40)] == [500] * 40
        assert [circuit(fleet, mock) for mock in fleet.mocks].count(2) <= 2
        assert fleet.metric("fd_router_panics_total", role="mixed") > 0
        eventually(lambda: "Panic: circuit of http://127.0.0.1:" in fleet.router.log)


async def test_instances_killed_one_after_the_other_lose_no_request():
    """The short form of ``benchmarks/kill_one.py``."""
    report = await run_kills(Plan(seconds=4, kill_every_secs=1, clients=24))
    assert report.errors == []
    assert report.lost == 0
    assert report.at_work > 0, "nothing was killed in the middle of its work"
    assert report.retries >= report.at_work - report.kills  # one may end between the look and the kill
    assert report.repairs == 0


async def test_a_stopped_instance_is_avoided_after_a_probe_and_its_requests_end_by_their_limit():
    config = {
        "manager": {"health-check-interval-secs": 0.5, "health-check-timeout-secs": 0.5},
        "proxy": {"first-byte-timeout-secs": 2},
        "scheduler": {"policy": "round_robin"},
    }
    with Fleet(2, config=config) as fleet:
        stopped = fleet.mocks[0]
        stopped.set_faults("hang_before_head")
        asking = asyncio.create_task(ask_at_once(fleet, 4, max_tokens=1))
        await until(lambda: len(stopped.completions()) == 2)
        stopped.pause()
        try:
            assert sorted(answer.status_code for answer in await asking) == [200, 200, 504, 504]
            eventually(lambda: not fleet.is_healthy(stopped))
            retries = fleet.metric("fd_router_retries_total")
            assert [fleet.ask()[0] for _ in range(6)] == [200] * 6
            assert fleet.metric("fd_router_retries_total") == retries, "some went to the stopped one first"
        finally:
            stopped.resume()
        stopped.set_faults()
        eventually(lambda: fleet.is_healthy(stopped))


async def test_a_newcomer_is_not_flooded():
    """Without it, the idlest instance gets every request until it has as many as the others."""
    with Fleet(2, mock=SLOW, config={"protection": {"slow-start-secs": 5}}) as fleet:
        await asyncio.sleep(5)  # the first two are warm
        running = asyncio.create_task(ask_at_once(fleet, 20, max_tokens=1_000_000))  # until they are aborted
        await until(lambda: sum(mock.state()["live"] for mock in fleet.mocks) == 20)
        new = await asyncio.to_thread(fleet.add, MockProcess(router=f"127.0.0.1:{fleet.port}", **SLOW))
        await until(lambda: "mixed" in str(fleet.router.call("GET", "/registered_number")) and fleet.is_healthy(new))
        answers = await ask_at_once(fleet, 8, max_tokens=1)
        assert {answer.status_code for answer in answers} == {200}
        assert len(new.completions()) < 8
        await asyncio.to_thread(fleet.router.call, "POST", "/v1/abort_requests", {"abort_all": True})
        assert {answer.status_code for answer in await running} == {200}
