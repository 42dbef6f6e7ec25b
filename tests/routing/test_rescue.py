"""Requests that a dead instance hasn't begun to answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health
from fd_router.routing.rescue import AT_A_TIME, Rescue
from fd_router.routing.single import SingleInstanceRequest
from tests.support.fake_log import FakeLog
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk

STREAMED = b'{"prompt": "x", "stream": true}'


class Group:
    def __init__(self, rig: Rig) -> None:
        self.available = tuple(rig.instances)


def rescue_for(rig: Rig) -> tuple[Rescue, FakeLog]:
    log = FakeLog()
    for instance in rig.instances:
        instance.groups = (Group(rig),)  # type: ignore[assignment]
    return Rescue(rig.state.proxied_requests, rig.pools.delivered_at, clock=rig.timers.time, log=log), log


async def die(rig: Rig, rescue: Rescue, place: int = 0) -> None:
    rig.instances[place].health = Health.UNHEALTHY
    rescue.on_change(Change(ChangeKind.DEAD, rig.instances[place], "connection refused"))
    await rig.settle()


async def test_those_without_an_answer_go_to_another_instance() -> None:
    rig = Rig(2)
    rescue, log = rescue_for(rig)
    client = rig.client()
    first = await rig.ask(client)
    await die(rig, rescue)
    assert first.is_closing()
    (second,) = rig.backend.live
    second.receive(answer())
    await rig.settle()
    assert b"200 OK" in client.written
    assert [attempt.outcome for attempt in rig.records[0].failed_attempts] == ["dead"]
    what = "1 requests without an answer were taken from it"
    assert log.lines == [("warn", f"http://10.0.0.1:8000 is dead (connection refused): {what}")]
    rig.assert_nothing_is_held()


async def test_what_has_begun_goes_on() -> None:
    rig = Rig(2)
    rescue, log = rescue_for(rig)
    client = rig.client()
    reached = await rig.ask(client, STREAMED)
    reached.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
    await rig.pass_time(2.0)
    await die(rig, rescue)
    reached.receive(STREAM_END)
    await rig.settle()
    assert client.written.endswith(chunk(b"data: 1\n\n") + STREAM_END)
    assert log.lines == []


async def test_an_instance_that_still_delivers_is_not_dead() -> None:
    rig = Rig(2, policy="request_num")
    rescue, _ = rescue_for(rig)
    streaming = await rig.ask(rig.client(), STREAMED)
    rig.instances[1].running += 9
    waiting = await rig.ask(rig.client())
    assert streaming.peer == waiting.peer
    streaming.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
    await die(rig, rescue)
    assert not waiting.is_closing()
    await rig.pass_time(1.5)
    await die(rig, rescue)
    assert waiting.is_closing()
    assert not streaming.is_closing()


async def test_where_nobody_else_is_they_stay() -> None:
    rig = Rig(2)
    rescue, _ = rescue_for(rig)
    reached = await rig.ask(rig.client())
    rig.instances[1].health = Health.SUSPECT
    await die(rig, rescue)
    assert not reached.is_closing()


async def test_other_instances_requests_stay() -> None:
    rig = Rig(2)
    rescue, _ = rescue_for(rig)
    reached = [await rig.ask(rig.client()) for _ in range(2)]
    await die(rig, rescue)
    assert [transport.is_closing() for transport in reached] == [True, False]


async def test_many_are_moved_in_slices() -> None:
    rig = Rig(2)
    rescue, log = rescue_for(rig)
    for _ in range(3 * AT_A_TIME):
        await rig.ask(rig.client())
    await die(rig, rescue)
    assert f" {3 * AT_A_TIME // 2} requests" in log.lines[0][1]


async def test_a_bug_with_one_keeps_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(2, policy="request_num")
    rescue, _ = rescue_for(rig)
    rig.instances[1].running += 9
    reached = [await rig.ask(rig.client()) for _ in range(2)]
    goes, failed = SingleInstanceRequest._goes_from_dead, []

    def broken(request: SingleInstanceRequest, key: str, why: str) -> bool:
        if not failed:
            failed.append(request)
            raise ZeroDivisionError
        return goes(request, key, why)

    monkeypatch.setattr(SingleInstanceRequest, "_goes_from_dead", broken)
    await die(rig, rescue)
    assert sorted(transport.is_closing() for transport in reached) == [False, True]
    assert [type(bug["exception"]) for bug in rig.bugs] == [ZeroDivisionError]


async def test_one_that_is_back_before_all_are_moved_keeps_the_rest() -> None:
    rig = Rig(2)
    rescue, log = rescue_for(rig)
    for _ in range(3 * AT_A_TIME):
        await rig.ask(rig.client())
    rig.instances[0].health = Health.UNHEALTHY
    rescue.on_change(Change(ChangeKind.DEAD, rig.instances[0], "connection refused"))
    await asyncio.sleep(0)
    rig.instances[0].health = Health.HEALTHY
    await rig.settle()
    left = rig.instances[0].running
    assert left > AT_A_TIME // 2  # some of the second, and all of the third hundred
    assert f" {3 * AT_A_TIME // 2 - left} requests" in log.lines[0][1]


@pytest.mark.parametrize("leg", [0, 1])
async def test_a_pair_of_which_one_is_dead_gives_way_to_another(leg: int) -> None:
    rig = PairRig(2, 2)
    rescue, _ = rescue_for(rig)
    client = rig.client()
    legs = await rig.pair(client, STREAMED)
    await die(rig, rescue, place=2 * leg)
    assert all(transport.is_closing() for transport in legs)
    again = rig.reached()
    assert again[leg].peer != legs[leg].peer
    again[1].receive(STREAM_HEAD + chunk(b"data: 1\n\n") + STREAM_END)
    again[0].receive(STREAM_HEAD + chunk(b"data: 1\n\n") + STREAM_END)
    await rig.settle()
    assert client.written.endswith(STREAM_END)
    rig.assert_nothing_is_held()


async def test_a_prefill_that_has_done_its_part_isnt_missed() -> None:
    rig = PairRig(2, 2)
    rescue, _ = rescue_for(rig)
    prefill, decode = await rig.pair(rig.client(), STREAMED)
    prefill.receive(STREAM_HEAD + chunk(b"data: 1\n\n") + STREAM_END)
    await rig.settle()
    await die(rig, rescue)
    assert not decode.is_closing()


@pytest.mark.parametrize("kind", [ChangeKind.DOWN, ChangeKind.SUSPECT])
async def test_nothing_less_counts(kind: Any) -> None:
    rig = Rig(2)
    rescue, _ = rescue_for(rig)
    reached = await rig.ask(rig.client())
    rescue.on_change(Change(kind, rig.instances[0]))
    await rig.settle()
    assert not reached.is_closing()
