"""Requests that wait for room, with fake connections at both ends."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fd_router.admission.priorities import Priorities
from fd_router.capacity.headroom import Headroom
from fd_router.errors import HttpError, LimitError
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.instances.instance import Health, Instance
from fd_router.routing.request_queue import QueueObserver, QueueTicket, RequestQueue
from fd_router.routing.single import SingleContext
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies.round_robin import RoundRobinPolicy
from fd_router.scheduling.scheduler import Scheduler
from tests.support.fake_transport import FakeLoop, FakeTransport
from tests.support.live import live_config
from tests.support.rig import Rig, answer, post
from tests.support.scheduling_fakes import AskedGroup

PRIORITIES = Priorities({"high": 16, "normal": 4, "low": 1})


class CrowdedRig(Rig):
    """A rig whose instances take ``limit`` requests at once."""

    def __init__(self, instances: int = 1, limit: int = 1, **options: Any) -> None:
        self.waits: list[float] = []
        self.refusals: list[str] = []
        self.warnings: list[str] = []
        super().__init__(instances, admission=options)
        for instance in self.instances:
            self.headroom.set_limit(instance, limit)

    def _make_context(self, policy: str) -> SingleContext:
        context = super()._make_context(policy)
        self.headroom = Headroom()
        scheduler = Scheduler[Instance](
            AskedGroup(self.available),
            RoundRobinPolicy(Environment(self.timers.time, random.Random(1))),
            lambda: "none is there",
        )
        observer = QueueObserver(self.waits.append, self.refusals.append, self.warnings.append)
        self.queue = RequestQueue(self.live, PRIORITIES, self.sweeper, self.timers.time, self.loop.call_soon, observer)
        self.headroom.on_capacity(self.queue.on_capacity)
        return msgspec.structs.replace(context, select=scheduler.select, queue=self.queue)

    async def send(self, name: str, headers: str = "", **more: object) -> FakeTransport:
        client = self.client()
        client.receive(post(json.dumps({"prompt": name, **more}).encode(), headers=headers))
        await self.settle()
        return client

    def seen(self) -> list[str]:
        """Return the prompts that reached the instances, in their order."""
        found = []
        for transport in self.backend.opened:
            for write in transport.writes:
                found.append(json.loads(write.partition(b"\r\n\r\n")[2])["prompt"])
        return found

    async def answer_one(self) -> str:
        """Let the instance answer what it has, and return the prompt."""
        (busy,) = [x for x in self.backend.live if not x.protocol.is_idle]  # type: ignore[union-attr]
        prompt: str = json.loads(busy.writes[-1].partition(b"\r\n\r\n")[2])["prompt"]
        busy.receive(answer())
        await self.settle()
        return prompt

    def assert_nothing_is_held(self) -> None:
        super().assert_nothing_is_held()
        assert self.queue.waiting == 0
        assert set(self.queue.lengths().values()) == {0}


def refusal(data: bytes) -> tuple[int, str, str]:
    head, _, body = data.partition(b"\r\n\r\n")
    (after,) = [line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"retry-after")]
    return int(head.split()[1]), json.loads(body)["error"]["code"], after.decode()


async def test_who_waits_is_served_in_order_as_soon_as_there_is_room() -> None:
    rig = CrowdedRig()
    clients = [await rig.send(name) for name in "abcd"]
    assert rig.queue.waiting == 3
    assert rig.counts() == [(1, 2)]
    rig.timers.now += 0.5
    assert [await rig.answer_one() for _ in "abcd"] == ["a", "b", "c", "d"]
    assert all(b" 200 OK" in client.take() for client in clients)
    assert rig.waits == [0.5, 0.5, 0.5]
    assert len(rig.warnings) == 1
    rig.assert_nothing_is_held()


async def test_nobody_overtakes() -> None:
    """Room that is free already belongs to who waits, though nobody has told them yet."""
    rig = CrowdedRig()
    await rig.send("a")
    await rig.send("b")
    (busy,) = rig.backend.opened
    late = rig.client()
    busy.receive(answer())
    late.receive(post(b'{"prompt": "c"}'))
    await rig.settle()
    assert await rig.answer_one() == "b"
    assert await rig.answer_one() == "c"
    rig.assert_nothing_is_held()


async def test_shares_by_header_and_service_tier() -> None:
    rig = CrowdedRig()
    await rig.send("first")
    for number in range(4):
        await rig.send(f"l{number}", "X-Priority: low\r\n")
        await rig.send(f"n{number}")
        await rig.send(f"h{number}", service_tier="priority")
    order = [await rig.answer_one() for _ in range(13)][1:]
    for kind in "lnh":
        assert [name for name in order if name[0] == kind] == [f"{kind}{number}" for number in range(4)]
    assert [name[0] for name in order[3:6]] == ["h"] * 3, order
    assert order[-3:] == ["l1", "l2", "l3"]
    rig.assert_nothing_is_held()


async def test_a_client_that_leaves_frees_its_place() -> None:
    rig = CrowdedRig(max_queued=2)
    await rig.send("a")
    leaving, _ = await rig.send("b"), await rig.send("c")
    status, code, after = refusal((await rig.send("d")).take())
    assert (status, code, int(after) >= 1) == (429, "queue_full", True)
    leaving.lose()
    await rig.settle()
    assert rig.queue.waiting == 1
    await rig.send("e")
    assert [await rig.answer_one() for _ in range(3)] == ["a", "c", "e"]
    assert rig.refusals == ["queue_full"]
    assert [record.outcome for record in rig.records].count("client_gone") == 1
    rig.assert_nothing_is_held()


async def test_each_priority_has_its_own_places() -> None:
    rig = CrowdedRig(max_queued=1)
    await rig.send("a")
    await rig.send("b", "X-Priority: low\r\n")
    assert refusal((await rig.send("c", "X-Priority: low\r\n")).take())[:2] == (429, "queue_full")
    await rig.send("d")
    assert rig.queue.lengths() == {"high": 0, "normal": 1, "low": 1}


async def test_waiting_ends() -> None:
    rig = CrowdedRig(queue_timeout_secs=5.0)
    await rig.send("a")
    client = await rig.send("b")
    await rig.pass_time(4.5)
    assert client.take() == b""
    await rig.pass_time(1.0)
    for _ in range(8):
        await rig.pass_time(0.2)
    assert refusal(client.take())[:2] == (503, "queue_timeout")
    assert rig.refusals == ["queue_timeout"]
    assert await rig.answer_one() == "a"
    rig.assert_nothing_is_held()


async def test_without_places_the_answer_comes_at_once() -> None:
    rig = CrowdedRig(max_queued=0)
    await rig.send("a")
    assert refusal((await rig.send("b")).take()) == (429, "queue_full", "1")
    assert rig.warnings == []


async def test_an_instance_that_comes_up_takes_who_waits() -> None:
    rig = CrowdedRig(instances=2)
    rig.instances[1].health = Health.UNHEALTHY
    for name in "abc":
        await rig.send(name)
    assert rig.seen() == ["a"]
    rig.instances[1].health = Health.HEALTHY
    rig.headroom.notify()
    await rig.settle()
    assert sorted(rig.seen()) == ["a", "b"]
    assert rig.queue.waiting == 1


async def test_who_waits_stays_when_no_instance_is_left_for_a_moment() -> None:
    rig = CrowdedRig()
    await rig.send("a")
    await rig.send("b")
    rig.instances[0].health = Health.SUSPECT
    await rig.answer_one()
    assert rig.queue.waiting == 1
    rig.instances[0].health = Health.HEALTHY
    rig.headroom.notify()
    await rig.settle()
    assert await rig.answer_one() == "b"
    rig.assert_nothing_is_held()


async def test_one_whose_instance_failed_waits_before_the_others() -> None:
    rig = CrowdedRig(instances=2)
    for name in "abcd":
        await rig.send(name)
    rig.instances[0].health = Health.SUSPECT  # as the registry will say of the one that fails
    rig.backend.opened[0].lose()
    await rig.settle()
    assert rig.queue.waiting == 3
    order = [await rig.answer_one() for _ in range(4)]
    assert order == ["b", "a", "c", "d"]
    assert [record.attempts for record in rig.records] == [2, 1, 1, 1]
    rig.assert_nothing_is_held()


async def test_a_bug_with_one_does_not_keep_the_others_waiting() -> None:
    rig = CrowdedRig()
    clients = [await rig.send(name) for name in "abc"]
    select, calls = rig.context.select, []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise ZeroDivisionError
        return select(*arguments)

    waiting = rig.queue._queue._lanes["normal"].parties.values()
    for ticket in [ticket for tickets in waiting for ticket in tickets]:
        ticket.request._select = failing  # type: ignore[attr-defined]
    assert await rig.answer_one() == "a"
    assert b" 500 " in clients[1].take()
    assert await rig.answer_one() == "c"
    assert len(rig.bugs) == 1
    rig.bugs.clear()
    rig.assert_nothing_is_held()


async def test_sessions_take_turns_and_so_do_clients_without_one() -> None:
    rig = CrowdedRig()
    await rig.send("first")
    for name in ("a1", "a2", "a3"):
        await rig.send(name, session_id="a")
    await rig.send("b1", session_id="b")
    await rig.send("c1")
    assert [await rig.answer_one() for _ in range(6)] == ["first", "a1", "b1", "c1", "a2", "a3"]
    rig.assert_nothing_is_held()


async def test_in_a_full_queue_who_has_most_makes_room() -> None:
    rig = CrowdedRig(max_queued=3)
    await rig.send("first")
    many = [await rig.send(name, session_id="a") for name in ("a1", "a2", "a3")]
    await rig.send("b1", session_id="b")
    assert refusal(many[-1].take())[:2] == (429, "queue_full")
    assert refusal((await rig.send("a4", session_id="a")).take())[:2] == (429, "queue_full")
    assert [await rig.answer_one() for _ in range(4)] == ["first", "a1", "b1", "a2"]
    assert rig.refusals == ["queue_full", "queue_full"]
    rig.assert_nothing_is_held()


async def test_who_makes_room_may_have_sent_more_already() -> None:
    """Its next request comes up when the one before is refused, and finds no place free that isn't its own."""
    rig = CrowdedRig(max_queued=2)
    await rig.send("first")
    await rig.send("a1", session_id="a")
    crowd = rig.client()
    crowd.receive(b"".join(post(b'{"prompt": "a%d", "session_id": "a"}' % number) for number in range(2, 6)))
    await rig.settle()
    await rig.send("b1", session_id="b")
    assert crowd.take().count(b" 429 ") == 4
    assert rig.queue.waiting == 2
    assert [await rig.answer_one() for _ in range(3)] == ["first", "a1", "b1"]
    rig.assert_nothing_is_held()


# the queue alone


class Someone:
    def __init__(self, fleet: Simulated) -> None:
        self.fleet = fleet
        self.ticket: QueueTicket | None = None
        self.error: HttpError | None = None

    def try_dispatch(self) -> bool:
        if self.fleet.room == 0:
            return False
        self.fleet.room -= 1
        self.fleet.served.append(self)
        self.ticket = None
        return True

    def on_turned_away(self, error: HttpError) -> None:
        self.ticket, self.error = None, error


class Simulated:
    def __init__(self, room: int = 0, **options: Any) -> None:
        self.room = room
        self.served: list[Someone] = []
        self.loop = FakeLoop()
        self.sweeper = DeadlineSweeper(self.loop)  # type: ignore[arg-type]
        self.sweeper.start()
        self.refusals: list[str] = []
        observer = QueueObserver(lambda seconds: None, self.refusals.append, lambda line: None)
        live = live_config(admission=options)
        self.queue = RequestQueue(live, PRIORITIES, self.sweeper, self.loop.time, self.loop.call_soon, observer)


STEPS = st.one_of(
    st.tuples(st.just("enter"), st.tuples(st.sampled_from(PRIORITIES.names), st.sampled_from("abc"))),
    st.tuples(st.just("again"), st.tuples(st.sampled_from(PRIORITIES.names), st.sampled_from("abc"))),
    st.tuples(st.just("leave"), st.integers(0, 20)),
    st.tuples(st.just("room"), st.integers(1, 3)),
    st.tuples(st.just("time"), st.floats(0.01, 4.0)),
)


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=60))
def test_every_one_that_enters_leaves_once(steps: list[tuple[str, Any]]) -> None:
    fleet = Simulated(max_queued=5, queue_timeout_secs=3.0)
    inside: list[Someone] = []
    entered = left = refused = 0
    for step, value in steps:
        if step in {"enter", "again"}:
            someone = Someone(fleet)
            try:
                someone.ticket = fleet.queue.enter(someone, *value, again=step == "again")
            except LimitError:
                refused += 1
                assert step == "enter"
            else:
                entered += 1
                inside.append(someone)
        elif step == "leave" and (waiting := [one for one in inside if one.ticket is not None]):
            someone = waiting[value % len(waiting)]
            assert someone.ticket is not None
            someone.ticket.leave()
            someone.ticket = None
            left += 1
        elif step == "room":
            fleet.room += value
            fleet.queue.on_capacity()
            fleet.loop.run_soon()
        elif step == "time":
            fleet.loop.advance(value)
        expired = sum(one.error is not None for one in inside)
        assert fleet.queue.waiting == entered - left - expired - len(fleet.served)
        assert fleet.queue.waiting == sum(one.ticket is not None for one in inside) == len(fleet.sweeper)
        assert fleet.queue.waiting == sum(fleet.queue.lengths().values())
        assert fleet.room == 0 or fleet.queue.waiting == 0 or step != "room"
    displaced = sum(isinstance(one.error, LimitError) for one in inside)
    assert fleet.refusals.count("queue_full") == refused + displaced


@pytest.mark.parametrize("waiting", [1, 500])
def test_retry_after_follows_the_measured_rate(waiting: int) -> None:
    fleet = Simulated(max_queued=waiting)
    for _ in range(waiting):
        fleet.queue.enter(Someone(fleet), "normal")
    for _ in range(50):
        fleet.loop.advance(0.1)
        fleet.room += 1
        fleet.queue.on_capacity()
        fleet.loop.run_soon()
        if fleet.queue.waiting < waiting:
            fleet.queue.enter(Someone(fleet), "normal")
    with pytest.raises(LimitError) as caught:
        fleet.queue.enter(Someone(fleet), "normal")
    ((name, value),) = caught.value.headers
    assert name == "retry-after"
    assert abs(int(value) - max(1, waiting / 10)) <= 5
