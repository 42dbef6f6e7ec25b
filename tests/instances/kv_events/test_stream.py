"""A stream of KV events in order: gaps, restarts, echoes, an engine that doesn't answer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fd_router.engines.kv_events import BlockRemoved, KvEvent
from fd_router.instances.kv_events.stream import CHECK_SECS, REPLAY_SECS, EventStream


class Engine:
    """Publishes numbered batches, each with numbers that are never told twice, and keeps the last ``kept``."""

    def __init__(self, kept: int = 1000) -> None:
        self.kept = kept
        self.many = 1  # numbers, an event each, in a batch
        self.time = 0.0
        self.told: list[int] = []  # since it began
        self.batches = 0
        self.buffer: list[tuple[int, bytes]] = []
        self.last = 0

    def publish(self) -> tuple[int, bytes]:
        self.time += 1
        numbers = range(self.last + 1, self.last + 1 + self.many)
        self.last += self.many
        events = [{"type": "BlockRemoved", "block_hashes": [number]} for number in numbers]
        batch = (self.batches, msgspec.msgpack.encode([self.time, events, 0]))
        self.batches += 1
        self.told += numbers
        self.buffer = [*self.buffer, batch][-self.kept :]
        return batch

    def restart(self) -> None:
        self.told, self.buffer, self.batches = [], [], 0


class Cache:
    def __init__(self) -> None:
        self.seen: list[int] = []
        self.is_whole = False

    def apply(self, events: Sequence[KvEvent], unknown: int = 0, *, goes_on: bool = False) -> None:
        for event in events:
            assert isinstance(event, BlockRemoved)
            self.seen += [int(block) for block in event.block_hashes]

    def forget(self) -> None:
        self.seen, self.is_whole = [], False

    def begin(self) -> None:
        self.is_whole = True


class Rig:
    def __init__(self, kept: int = 1000, *, replays: bool = True) -> None:
        self.now = 0.0
        self.heeds = True  # ``is_amid``, as whoever receives batches does
        self.engine, self.cache = Engine(kept), Cache()
        self.asked: list[int] = []
        self.stream = EventStream(self.cache, self.asked.append if replays else None)
        self.stream.begin(self.now)

    def answer(self) -> None:
        """Let the engine answer what it was asked, until nothing is asked any more."""
        for _ in range(10):
            if not self.stream.is_asking:
                return
            first = self.asked[-1]
            for number, payload in self.engine.buffer:
                if number >= first:
                    self.stream.on_replayed(number, payload, self.now)
                    while self.heeds and self.stream.is_amid:
                        self.stream.catch_up(self.now)
            self.stream.on_replay_end(self.now)
        raise AssertionError("it asks for ever")

    def publish(self, *, arrives: bool = True) -> None:
        batch = self.engine.publish()
        if arrives:
            self.stream.on_batch(*batch, self.now)

    def catch_up(self) -> None:
        for _ in range(10_000):
            if not self.stream.has_more:
                return
            self.stream.catch_up(self.now)
        raise AssertionError("there is always more")

    def wait(self, secs: float) -> None:
        self.now += secs
        self.stream.tick(self.now)


def test_what_was_told_before_is_asked_for() -> None:
    rig = Rig()
    rig.engine.publish()
    rig.publish()
    assert rig.cache.seen == []
    rig.answer()
    assert (rig.cache.seen, rig.cache.is_whole) == ([1, 2], True)


def test_an_engine_that_told_nothing_holds_nothing() -> None:
    rig = Rig()
    rig.answer()
    assert rig.cache.is_whole


def test_a_gap_is_replayed_and_what_comes_meanwhile_waits() -> None:
    rig = Rig()
    rig.answer()
    rig.publish()
    rig.publish(arrives=False)
    rig.publish()
    rig.publish()
    assert rig.cache.seen == [1]
    rig.answer()
    assert (rig.cache.seen, rig.stream.counts["replayed"], rig.stream.counts["lost"]) == ([1, 2, 3, 4], 1, 0)


def test_what_waited_is_taken_in_slices_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of batches may have come while others were replayed."""
    one_batch = len(Engine().publish()[1])
    monkeypatch.setattr("fd_router.instances.kv_events.stream.AT_ONCE", one_batch)
    rig = Rig()
    rig.answer()
    rig.publish()
    rig.publish(arrives=False)
    for _ in range(5):
        rig.publish()
    for number, payload in rig.engine.buffer[:2]:
        rig.stream.on_replayed(number, payload, rig.now)
    rig.stream.on_replay_end(rig.now)
    assert rig.cache.seen == [1, 2, 3]  # what was replayed, and the first that waited
    assert rig.stream.has_more
    rig.publish()
    assert rig.cache.seen == [1, 2, 3]
    for _ in range(5):
        rig.stream.catch_up(rig.now)
    assert rig.cache.seen == rig.engine.told
    assert not rig.stream.has_more
    assert rig.stream.counts["lost"] == 0
    rig.publish()
    assert rig.cache.seen == rig.engine.told


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Whose engine tells three events in a batch, each of which is a piece of its own."""
    monkeypatch.setattr("fd_router.instances.kv_events.stream.AT_ONCE", 50)
    rig = Rig()
    rig.engine.many = 3
    rig.answer()
    return rig


def test_a_large_batch_is_taken_in_pieces_and_what_comes_meanwhile_waits(large: Rig) -> None:
    large.publish()
    assert (large.cache.seen, large.stream.has_more, large.stream.is_amid) == ([], True, True)
    large.publish()
    for seen in ([1], [1, 2], [1, 2, 3]):
        large.stream.catch_up(large.now)
        assert large.cache.seen == seen
    large.catch_up()
    assert large.cache.seen == large.engine.told
    assert not large.stream.is_amid


def test_a_gap_behind_a_large_batch_is_seen_when_that_is_taken(large: Rig) -> None:
    large.publish()
    large.publish(arrives=False)
    large.publish()
    assert not large.stream.is_asking
    large.catch_up()
    assert (large.cache.seen, large.stream.is_asking) == ([1, 2, 3], True)
    large.answer()
    large.catch_up()
    assert (large.cache.seen, large.stream.counts["lost"]) == (large.engine.told, 0)


def test_nothing_is_asked_for_amid_a_large_batch(large: Rig) -> None:
    large.publish()
    large.wait(CHECK_SECS + 0.1)
    assert not large.stream.is_asking
    large.catch_up()
    large.wait(0.0)
    assert large.stream.is_asking


def test_the_rest_of_a_large_batch_goes_with_the_engine_that_told_it(large: Rig) -> None:
    large.publish()
    large.engine.restart()
    large.stream.begin(large.now)
    large.publish()
    assert (large.cache.seen, large.stream.has_more) == ([], False)
    large.answer()
    large.catch_up()
    assert (large.cache.seen, large.cache.is_whole) == ([4, 5, 6], True)


def test_replayed_batches_are_in_order_also_for_who_does_not_heed_that_one_is_large(large: Rig) -> None:
    large.heeds = False
    large.publish(arrives=False)
    large.publish(arrives=False)
    large.publish()
    large.answer()
    large.catch_up()
    assert large.cache.seen == large.engine.told


def test_events_that_are_none_are_counted_once(large: Rig) -> None:
    unknown: list[int] = []
    apply = large.cache.apply
    large.cache.apply = lambda events, more=0, **_: (unknown.append(more), apply(events))  # type: ignore[method-assign]
    payload = msgspec.msgpack.encode([1.0, [None, {"type": "Other"}] * 20, 0])
    large.stream.on_batch(0, payload, large.now)
    large.catch_up()
    assert (sum(unknown), len(unknown) > 1, large.stream.counts["broken"]) == (40, True, 0)


def test_what_the_engine_keeps_no_more_is_lost() -> None:
    rig = Rig(kept=2)
    rig.answer()
    rig.publish()
    for _ in range(5):
        rig.publish(arrives=False)
    rig.publish()
    rig.answer()
    assert (rig.cache.seen, rig.cache.is_whole, rig.stream.counts["lost"]) == ([6, 7], False, 1)


def test_without_replays_a_gap_is_a_loss_and_the_first_batch_a_beginning() -> None:
    rig = Rig(replays=False)
    assert not rig.cache.is_whole
    rig.publish()
    assert rig.cache.is_whole
    rig.publish(arrives=False)
    rig.publish()
    assert (rig.cache.seen, rig.cache.is_whole) == ([3], False)
    rig.engine.restart()
    rig.publish()
    assert (rig.cache.seen, rig.cache.is_whole) == ([4], True)


def test_an_engine_that_does_not_answer_is_not_waited_for() -> None:
    rig = Rig()
    rig.publish()
    rig.wait(REPLAY_SECS + 0.1)
    assert rig.cache.seen == [1]
    rig.publish(arrives=False)
    rig.publish()
    rig.wait(REPLAY_SECS + 0.1)
    assert (rig.cache.seen, rig.cache.is_whole) == ([3], False)


def test_a_restart_shows_by_the_next_batch_or_by_a_look() -> None:
    rig = Rig()
    rig.answer()
    for _ in range(3):
        rig.publish()
    rig.engine.restart()
    rig.publish()
    rig.answer()
    assert (rig.cache.seen, rig.cache.is_whole, rig.stream.counts["restarted"]) == ([4], True, 1)
    rig.engine.restart()
    rig.wait(CHECK_SECS + 0.1)
    rig.answer()
    assert (rig.cache.seen, rig.cache.is_whole, rig.stream.counts["restarted"]) == ([], True, 2)


def test_a_restart_shows_though_its_numbers_have_caught_up() -> None:
    rig = Rig()
    rig.answer()
    rig.publish()
    rig.publish()
    rig.engine.restart()
    for _ in range(4):
        rig.publish(arrives=False)
    rig.publish()
    rig.answer()
    assert (rig.cache.seen, rig.cache.is_whole) == ([3, 4, 5, 6, 7], True)


def test_one_that_keeps_nothing_of_what_is_known_may_be_another() -> None:
    rig = Rig(kept=1)
    rig.answer()
    rig.publish()
    rig.engine.restart()
    rig.wait(CHECK_SECS + 0.1)
    rig.publish()
    rig.publish()  # whose number is the next one of the engine before
    rig.answer()
    assert (rig.cache.seen, rig.cache.is_whole) == ([3], False)


def test_the_last_batch_is_missed_too() -> None:
    rig = Rig()
    rig.answer()
    rig.publish()
    rig.publish(arrives=False)
    rig.wait(CHECK_SECS + 0.1)
    rig.answer()
    assert rig.cache.seen == [1, 2]


def test_an_echo_is_no_restart() -> None:
    rig = Rig()
    rig.answer()
    batch = rig.engine.publish()
    rig.wait(CHECK_SECS + 0.1)
    rig.answer()
    rig.stream.on_batch(*batch, rig.now)
    assert (rig.cache.seen, rig.stream.counts["restarted"]) == ([1], 0)


def test_what_can_not_be_read_is_a_gap() -> None:
    rig = Rig()
    rig.answer()
    number, _ = rig.engine.publish()
    rig.stream.on_batch(number, b"\xc1", rig.now)
    rig.publish()
    rig.answer()
    assert (rig.cache.seen, rig.stream.counts["broken"]) == ([1, 2], 1)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["publish"] * 6 + ["lose"] * 2 + ["restart", "answer", "look", "go on"]), max_size=60),
    st.integers(1, 8) | st.just(1000),
    st.sampled_from([1, 150, 100_000]),
    st.booleans(),
)
def test_whatever_happens_what_is_seen_is_the_end_of_what_was_told(
    steps: list[str], kept: int, at_once: int, heeds: bool
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fd_router.instances.kv_events.stream.AT_ONCE", at_once)
        rig = Rig(kept)
        rig.heeds, rig.engine.many = heeds, 3
        _whatever_happens(rig, steps)
    told, seen = rig.engine.told, rig.cache.seen
    assert seen == told[len(told) - len(seen) :]
    assert len(seen) % 3 == 0
    assert not rig.cache.is_whole or seen == told
    assert kept < 1000 or rig.cache.is_whole


def _whatever_happens(rig: Rig, steps: list[str]) -> None:
    for step in steps:
        if step in ("publish", "lose"):
            rig.publish(arrives=step == "publish")
        elif step == "restart":
            rig.answer()  # two of them before an answer can't be told apart, but take longer
            rig.catch_up()
            rig.answer()
            rig.engine.restart()
            rig.wait(CHECK_SECS + 0.1)  # else it might tell a batch with just the number that is expected
        elif step == "answer":
            rig.answer()
        elif step == "go on":
            rig.stream.catch_up(rig.now)
        else:
            rig.wait(CHECK_SECS + 0.1)
    for _ in range(3):
        rig.answer()
        rig.catch_up()
        rig.answer()
        rig.wait(700)
    rig.answer()
    rig.catch_up()
