"""Streams that leave their instance before it breaks them off: a drain's deadline, and instances that are silent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Health, Instance
from fd_router.routing.continuable import ContinuableRequest
from fd_router.routing.continuation.contracts import Move
from fd_router.routing.rescue import Rescue
from fd_router.routing.stream_mover import MOST_LATER, Movable, StreamMover
from tests.support.exact_engine import events_of
from tests.support.fake_log import FakeLog
from tests.support.fake_transport import FakeTransport
from tests.support.rig import STREAM_END, STREAM_HEAD
from tests.support.stream_rig import BODY, TEXT, StreamRig, body_of
from tests.support.turns import slice_finely

GUIDED = json.dumps({"prompt": "Say it:", "stream": True, "guided_regex": "a+"}).encode()


class MoverRig(StreamRig):
    def __init__(self, instances: int = 3, **settings: Any) -> None:
        super().__init__(instances, **settings)
        self.log = FakeLog()
        requests: Any = self.state.proxied_requests
        self.mover = StreamMover(requests, lambda: self.instances, clock=self.timers.time, log=self.log)

    def available(self) -> list[Instance]:
        return [each for each in super().available() if not (each.is_draining or each.is_ejected or each.is_stuck)]

    def drain(self, place: int, seconds: float) -> Instance:
        instance = self.instances[place]
        instance.is_draining = True
        self.mover.drain_by(instance, seconds)
        return instance

    async def tick(self, seconds: float = 0.0) -> None:
        await self.pass_time(seconds)
        await self.mover.tick()
        await self.settle()

    async def rest(self, client: FakeTransport, body: bytes = BODY) -> None:
        """Have the newest instance send the rest; the client has one whole stream then."""
        await self.answer_next()
        assert events_of(body_of(client)) == self.whole(body)


async def test_a_stream_that_outlasts_the_deadline_moves() -> None:
    rig = MoverRig()
    client = rig.client()
    first = await rig.begin(client, 700)
    rig.drain(0, 30.0)
    await rig.tick(29.0)
    assert not first.is_closing()
    assert rig.mover.seconds_left("10.0.0.1:8000") == pytest.approx(1.0)
    await rig.tick(2.0)
    assert first.is_closing()
    await rig.rest(client)
    assert rig.metric("continued", "drained") == 1
    record = rig.records[0]
    assert (record.outcome, record.continued, record.continued_from) == ("completed", 1, "http://10.0.0.1:8000")
    assert [attempt.outcome for attempt in record.failed_attempts] == ["drained"]
    what = "drains, and its deadline is over: 1 streams went on elsewhere, 0 requests stay"
    assert [line for level, line in rig.log.lines if what in line and level == "info"]
    rig.assert_all_is_given_back()


async def test_what_nobody_can_go_on_with_stays_to_its_end() -> None:
    rig = MoverRig()
    client, other = rig.client(), rig.client()
    first = await rig.begin(client, 700, GUIDED)
    rig.drain(0, 0.0)
    for _ in range(3):
        await rig.tick(1.0)
    assert not first.is_closing()
    assert rig.metric("stayed", "guided") == 1  # told once
    first.receive(rig.engine.answer(GUIDED, chat=False)[700:])
    await rig.settle()
    assert events_of(body_of(client)) == rig.whole(GUIDED)
    unstreamed = await rig.ask(other)  # by the round robin, at the second one
    rig.drain(1, 0.0)
    await rig.tick(1.0)
    assert not unstreamed.is_closing()
    unstreamed.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    await rig.settle()
    rig.assert_all_is_given_back()


async def test_it_stays_until_there_is_room() -> None:
    rig = MoverRig(2)
    client = rig.client()
    first = await rig.begin(client, 500)
    rig.drain(0, 0.0)
    rig.instances[1].health = Health.UNHEALTHY
    await rig.tick(1.0)
    assert not first.is_closing()
    first.receive(rig.engine.answer(BODY, chat=False)[500:800])  # it goes on meanwhile
    rig.instances[1].health = Health.HEALTHY
    await rig.tick(1.0)
    assert first.is_closing()
    await rig.rest(client)
    assert rig.metric("continued", "drained") == 1
    rig.assert_all_is_given_back()


class Request:
    """One that can go on, or for whose model no other instance has room."""

    def __init__(self, instance: Instance, has_room: bool) -> None:
        self.instance = instance
        self.has_room = has_room
        self.tries = 0

    def instances(self) -> tuple[Instance, ...]:
        return (self.instance,) if self.tries == 0 or not self.has_room else ()

    def read_ahead(self, key: str, **_: float) -> None:
        return None

    def move_stream(self, key: str, why: str, **_: Any) -> Move:
        self.tries += 1
        return Move.MOVED if self.has_room else Move.LATER


async def test_those_for_which_there_is_no_room_hold_up_no_others() -> None:
    """Another model may be served elsewhere."""
    rig = MoverRig()
    instance = rig.drain(0, 0.0)
    instance.acquire(0)
    requests = [*(Request(instance, False) for _ in range(MOST_LATER + 2)), Request(instance, True)]
    mover = StreamMover(lambda: requests, lambda: rig.instances, clock=rig.timers.time, log=rig.log)
    mover.drain_by(instance, 0.0)
    await mover.tick()
    assert [each.tries for each in requests] == [1] * MOST_LATER + [0] * 3, "few are tried in vain at a time"
    await mover.tick()
    assert [each.tries for each in requests] == [*[2, 2], *[1] * MOST_LATER, 1]
    for _ in range(3):
        await mover.tick()
    assert min(each.tries for each in requests[:-1]) >= 2
    assert requests[-1].tries == 1


async def test_a_drain_that_is_taken_back() -> None:
    rig = MoverRig()
    client = rig.client()
    first = await rig.begin(client, 700)
    instance = rig.drain(0, 10.0)
    instance.is_draining = False
    rig.mover.on_change(Change(ChangeKind.UNDRAINED, instance))
    assert rig.mover.seconds_left(instance.key) is None
    await rig.tick(20.0)
    assert not first.is_closing()
    first.lose()
    await rig.rest(client)


async def test_an_instance_that_was_removed_is_left_in_time_all_the_same() -> None:
    rig = MoverRig()
    client = rig.client()
    first = await rig.begin(client, 700)
    instance = rig.drain(0, 10.0)
    instance.health = Health.UNHEALTHY
    rig.mover.on_change(Change(ChangeKind.REMOVED, instance))
    await rig.tick(11.0)
    assert first.is_closing()
    await rig.rest(client)
    rig.assert_all_is_given_back()


async def test_a_stream_moves_again() -> None:
    """It goes on at an instance that is drained as well."""
    rig = MoverRig(3)
    client = rig.client()
    await rig.begin(client, 400)
    rig.drain(0, 0.0)
    await rig.tick(1.0)
    second = await rig.answer_next(400)
    rig.drain(1, 0.0)
    await rig.tick(1.0)
    assert second.is_closing()
    await rig.rest(client)
    assert rig.records[0].continued == 2
    rig.assert_all_is_given_back()


async def test_one_that_is_yet_to_begin_isnt_moved_once_more() -> None:
    rig = MoverRig(3)
    client = rig.client()
    await rig.begin(client, 400)
    rig.drain(0, 0.0)
    await rig.tick(1.0)
    second = rig.newest()
    rig.drain(1, 0.0)
    await rig.tick(1.0)
    assert not second.is_closing()
    await rig.rest(client)


def doubt(instance: Instance, why: str) -> None:
    if why == "dead":
        instance.health = Health.UNHEALTHY
    elif why == "ejected":
        instance.is_ejected = True
    else:
        instance.is_stuck = True


@pytest.mark.parametrize("why", ["dead", "ejected", "stuck"])
async def test_silent_streams_leave_an_instance_that_something_speaks_against(why: str) -> None:
    rig = MoverRig()
    client = rig.client()
    first = await rig.begin(client, 700)
    doubt(rig.instances[0], why)
    await rig.tick(0.5)
    assert not first.is_closing()
    first.receive(rig.engine.answer(BODY, chat=False)[700:720])
    await rig.tick(0.8)
    assert not first.is_closing()
    await rig.tick(2.0)
    assert first.is_closing()
    await rig.rest(client)
    assert rig.metric("continued", why) == 1
    assert [line for level, line in rig.log.lines if f"is {why}: 1 silent streams" in line and level == "warn"]
    rig.assert_all_is_given_back()


async def test_an_instance_that_goes_while_another_one_is_left() -> None:
    rig = MoverRig()
    clients = [rig.client() for _ in range(2)]
    left = [await rig.begin(client, 700) for client in clients]
    first, second, *_ = rig.instances
    first.is_ejected = second.is_ejected = True
    looked: list[int] = []

    def requests() -> Iterable[Movable]:
        looked.append(len(rig.instances))
        rig.instances[:] = [each for each in rig.instances if each is not second]  # removed
        return rig.state.proxied_requests()

    rig.mover._requests = requests
    await rig.tick(3.0)
    assert looked == [3, 2]
    assert all(each.is_closing() for each in left)
    for client in clients:
        client.lose()
    await rig.settle()
    rig.assert_all_is_given_back()


async def amid_moving(rig: MoverRig, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[None]:
    """Begin to move the streams of an instance that drains; the first one is being read now."""
    slice_finely(monkeypatch)
    monkeypatch.setattr("fd_router.routing.continuable.LONG", 500)
    monkeypatch.setattr("fd_router.routing.continuation.stream_reading.STEP", 32)
    rig.drain(0, 0.0)
    await rig.pass_time(1.0)
    moving = asyncio.create_task(rig.mover.tick())
    for _ in range(4):
        await asyncio.sleep(0)
    assert not moving.done()
    return moving


async def test_a_drain_that_is_taken_back_while_streams_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = MoverRig()
    first = await rig.begin(client := rig.client(), 700)
    moving = await amid_moving(rig, monkeypatch)
    rig.instances[0].is_draining = False
    rig.mover.on_change(Change(ChangeKind.UNDRAINED, rig.instances[0]))
    await moving
    await rig.tick(1.0)
    assert not first.is_closing()
    first.receive(rig.engine.answer(BODY, chat=False)[700:])
    await rig.settle()
    assert events_of(body_of(client)) == rig.whole(BODY)
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("seconds", [0.0, 5.0])
async def test_a_deadline_that_is_set_anew_while_streams_are_moved(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    rig = MoverRig()
    first = await rig.begin(client := rig.client(), 700)
    moving = await amid_moving(rig, monkeypatch)
    rig.drain(0, seconds)
    await moving
    await rig.settle()
    assert not first.is_closing()
    await rig.tick(5.0)
    assert first.is_closing()
    await rig.rest(client)  # from the same place on, to the character
    rig.assert_all_is_given_back()


async def test_nothing_is_kept_of_one_that_is_gone() -> None:
    rig = MoverRig()
    await rig.begin(client := rig.client(), 700)
    for place in (0, 1):
        rig.drain(place, 1000.0)
    rig.instances[:] = rig.instances[:1]  # where a request still runs
    await rig.tick(1.0)
    assert repr(rig.mover) == "<StreamMover 1 deadlines, 0 instances left>"
    client.lose()
    rig.instances.clear()
    await rig.tick(1.0)
    assert repr(rig.mover) == "<StreamMover 0 deadlines, 0 instances left>"


async def test_a_bug_with_one_keeps_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = MoverRig(2)
    clients = [rig.client() for _ in range(2)]
    left = [await rig.begin(client, 700) for client in clients]
    moves, failed = ContinuableRequest.move_stream, []

    def broken(request: ContinuableRequest, key: str, why: str, **more: Any) -> Move:
        if not failed:
            failed.append(request)
        if request is failed[0]:
            raise ZeroDivisionError
        return moves(request, key, why, **more)

    monkeypatch.setattr(ContinuableRequest, "move_stream", broken)
    rig.drain(0, 0.0)
    for _ in range(3):
        await rig.tick(1.0)
    assert not any(each.is_closing() for each in left)  # the one there, which fails; it is tried once
    rig.instances[0].is_draining = False
    rig.drain(1, 0.0)
    await rig.tick(1.0)
    assert [each.is_closing() for each in left] == [False, True]
    bugs = rig.bugs[:]
    rig.bugs.clear()
    assert [type(bug["exception"]) for bug in bugs] == [ZeroDivisionError]
    for client in clients:
        client.lose()
    await rig.settle()
    rig.assert_all_is_given_back()


async def test_a_slow_client_is_no_silent_instance() -> None:
    rig = MoverRig()
    client = rig.client()
    first = await rig.begin(client, 700)
    client.protocol.pause_writing()  # type: ignore[union-attr]
    doubt(rig.instances[0], "dead")
    await rig.tick(10.0)
    assert not first.is_closing()
    client.protocol.resume_writing()  # type: ignore[union-attr]
    first.lose()
    await rig.rest(client)


async def test_only_silent_ones_are_left_so_they_stay() -> None:
    rig = MoverRig(1)
    client = rig.client()
    first = await rig.begin(client, 700)
    doubt(rig.instances[0], "stuck")
    await rig.tick(10.0)
    assert not first.is_closing()
    first.receive(rig.engine.answer(BODY, chat=False)[700:])
    await rig.settle()
    assert events_of(body_of(client)) == rig.whole()
    rig.assert_all_is_given_back()


async def test_the_one_that_is_to_go_on_dies_before_it_begins() -> None:
    rig = MoverRig(3)
    client = rig.client()
    (await rig.begin(client, 600, TEXT)).lose()
    await rig.settle()
    second = rig.newest()

    class Group:
        available = tuple(rig.instances)

    for instance in rig.instances:
        instance.groups = (Group(),)  # type: ignore[assignment]
    rescue = Rescue(rig.state.proxied_requests, rig.pools.delivered_at, clock=rig.timers.time, log=rig.log)
    rig.instances[1].health = Health.UNHEALTHY
    await rig.pass_time(2.0)
    rescue.on_change(Change(ChangeKind.DEAD, rig.instances[1], "connection refused"))
    await rig.settle()
    assert second.is_closing()
    await rig.answer_next()
    assert b"[DONE]" in client.written
    assert rig.records[0].continued_from == "http://10.0.0.1:8000"
    rig.assert_all_is_given_back()


async def test_run_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = MoverRig()
    looked = 0

    class EnoughError(Exception):
        pass

    async def tick() -> None:
        nonlocal looked
        looked += 1
        if looked == 3:
            raise EnoughError

    monkeypatch.setattr("fd_router.routing.stream_mover.INTERVAL_SECS", 0.001)
    monkeypatch.setattr(rig.mover, "tick", tick)
    with pytest.raises(EnoughError):
        await rig.mover.run()
    assert repr(rig.mover) == "<StreamMover 0 deadlines, 0 instances left>"


async def test_the_last_event_is_under_way() -> None:
    """Nothing is left to be generated: its instance sends it in a moment."""
    rig = MoverRig()
    client = rig.client()
    whole = rig.engine.answer(BODY, chat=False)
    first = await rig.begin(client, whole.index(b"data: [DONE]") - 4)
    rig.drain(0, 0.0)
    await rig.tick(1.0)
    assert not first.is_closing()
    first.receive(whole[whole.index(b"data: [DONE]") - 4 :])
    await rig.settle()
    assert client.written.endswith(STREAM_END)
    assert STREAM_HEAD.partition(b"\r\n")[0] in client.written
    rig.assert_all_is_given_back()
