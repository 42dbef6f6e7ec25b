"""Streams that are read in slices before another instance goes on with them: long ones, and many at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from fd_router.routing.continuation import stream_reading
from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.continuation.event_bytes import UsualEnd
from fd_router.routing.continuation.journal import Journal
from fd_router.routing.continuation.resumption import Resumption, ResumptionTurns
from fd_router.routing.continuation.stream_reading import StreamReading
from tests.routing.test_stream_mover import MoverRig
from tests.support.exact_engine import events_of
from tests.support.fake_transport import FakeTransport
from tests.support.outlets import StreamOwner
from tests.support.rig import STREAM_HEAD
from tests.support.stream_rig import BODY, StreamRig, body_of

ERROR = b'data: {"error":{"message":"EngineCore encountered an issue"}}\n\n'
GUIDED = json.dumps({"prompt": "Say it:", "stream": True, "guided_regex": "a+"}).encode()


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice is over at once, after one step of 100 bytes."""
    for name in ("fd_router.http.pace.SLICE_SECS", "fd_router.routing.continuation.resumption.SLICE_SECS"):
        monkeypatch.setattr(name, -1.0)
    monkeypatch.setattr(stream_reading, "STEP", 100)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def begun(rig: StreamRig, body: bytes = BODY) -> tuple[FakeTransport, FakeTransport]:
    client = rig.client()
    at = rig.engine.answer(body, chat=False).index(b"\n\n\r\n", 900) + 4
    return client, await rig.begin(client, at, body)


async def test_streams_that_break_off_at_once_go_on_one_after_the_other() -> None:
    rig = StreamRig()
    streams = [await begun(rig) for _ in range(3)]
    opened = [len(rig.backend.opened)]
    for _, instance in streams:
        instance.lose()
    while not rig.keeper.turns.are_over:
        opened.append(len(rig.backend.opened))
        await asyncio.sleep(0)
    await rig.settle()
    assert opened[1] == opened[0]  # all were yet to be read
    assert len(opened) > 3 * 10
    assert len(set(opened)) >= 3  # one after the other
    for instance in rig.backend.opened[opened[0] :]:
        asked = instance.written.rpartition(b"\r\n\r\n")[2]
        instance.receive(STREAM_HEAD + rig.engine.answer(asked, chat=False))
    await rig.settle()
    assert [events_of(body_of(client)) for client, _ in streams] == [rig.whole()] * 3
    assert rig.metric("continued", "cut_off") == 3
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("rest", [b"", chunk(b"data: [DONE]\n\n")[:5], chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"])
async def test_an_error_that_nobody_can_mend_is_passed_on(rest: bytes) -> None:
    rig = StreamRig()
    client, instance = await begun(rig, GUIDED)
    instance.receive(chunk(ERROR) + rest)
    await rig.resumed()
    assert client.written.endswith(chunk(ERROR) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    assert not client.is_closing()
    assert (rig.records[0].outcome, rig.records[0].flaw) == ("failed", "The stream has an error in it")
    rig.assert_all_is_given_back()


async def test_what_nobody_can_go_on_with_breaks() -> None:
    rig = StreamRig()
    client, instance = await begun(rig, GUIDED)
    instance.lose()
    await rig.resumed()
    assert client.is_closing()
    assert client.written.endswith(b"\n\n\r\n")
    assert rig.records[0].outcome == "failed"
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("leaves", [True, False])
async def test_one_that_ends_before_its_turn(leaves: bool) -> None:
    """Its client leaves, or has it aborted."""
    rig = StreamRig()
    (client, instance), (other, second) = await begun(rig), await begun(rig)
    opened = len(rig.backend.opened)
    request = next(each for each in rig.state.proxied_requests() if each.record.mixed == "http://10.0.0.1:8000")
    instance.lose()
    second.lose()
    if leaves:
        client.lose()
    else:
        request.on_abort_asked()
    await rig.resumed()
    assert len(rig.backend.opened) == opened + 1  # for the other one
    await rig.answer_next()
    assert events_of(body_of(other)) == rig.whole()
    assert client.is_closing()
    rig.assert_all_is_given_back()


async def test_a_bug_with_one_keeps_none_waiting() -> None:
    turns, done = ResumptionTurns(), []
    bugs: list[Exception] = []

    def fail() -> None:
        raise ValueError("a bug")

    for go_on in (fail, lambda: done.append(1)):
        reading = StreamReading(tuple, chat=False)
        turns.add(Resumption(reading, go_on, bugs.append).slices())
    assert not turns.has_time()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (len(bugs), done) == (1, [1])


async def test_one_that_comes_between_the_last_slice_and_the_next_is_not_resumed_twice() -> None:
    turns, done, bugs = ResumptionTurns(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context["exception"]))

    def steps(number: int) -> Iterator[None]:
        for _ in range(3):
            yield
        done.append(number)

    def add(number: int) -> None:
        turns.add(steps(number))

    add(1)
    for _ in range(10):
        if not turns.are_over:
            await asyncio.sleep(0)
    add(2)  # the slice in which the first one ended has a next one
    add(3)
    for _ in range(20):
        await asyncio.sleep(0)
    add(4)  # nor is that next one taken for under way for ever
    for _ in range(10):
        await asyncio.sleep(0)
    assert (done, bugs) == ([1, 2, 3, 4], [])


async def test_a_long_stream_is_read_before_it_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fd_router.routing.continuable.LONG", 500)
    rig, turns = MoverRig(), 0
    client, first = await begun(rig)
    rig.drain(0, 1.0)
    await rig.pass_time(2.0)
    moving = asyncio.create_task(rig.mover.tick())
    while not moving.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 9
    assert first.is_closing()
    await rig.rest(client)
    rig.assert_all_is_given_back()


def test_a_stream_that_grows_is_read_on() -> None:
    journal = Journal(JournalBudget(1 << 20), 1 << 20, StreamOwner(), UsualEnd())
    reading = StreamReading(journal.framed, chat=False)
    for number in range(300):
        event = chunk(b'data: {"choices":[{"index":0,"text":"%d "}]}\n\n' % number)
        if number:
            journal.on_data(event)
        else:
            journal.begin(event)
        if number % 7 == 0:
            steps = len(list(reading.read()))
            assert steps < 20
    list(reading.read())
    assert reading.generated.whole_text == "".join(f"{number} " for number in range(300))
    reading.close()
    reading.close()
    journal.close()
