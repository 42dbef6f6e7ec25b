"""What waits in the router for one instance: worked examples at 1,000 tokens/s."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.scheduling.ttft.columns import FleetColumns
from fd_router.scheduling.ttft.held_prompts import AGEING, LEAD, MOST, HeldPrompts, HoldQueue
from fd_router.scheduling.ttft.prefill_queue import PrefillQueue, PromptWork
from fd_router.scheduling.ttft.prefill_speed import PrefillSpeed
from tests.support.fake_transport import FakeLoop
from tests.support.scheduling_fakes import fleet


class Bench:
    """A hold queue, and the prompts that it let through, by name."""

    def __init__(self, feed_tokens: float = 500.0) -> None:
        self.loop = FakeLoop(0.0)
        self.sent: list[str] = []
        self.prompts: dict[str, PromptWork] = {}
        self.columns = FleetColumns()
        self.waiting = HeldPrompts(self.columns)
        self.backlog = PrefillQueue(PrefillSpeed(1000.0), self.columns, self.columns.slot("http://10.0.0.1:8000"))
        self.backlog.speed.is_known = True
        self.hold_queue = HoldQueue(self.backlog, 0, self.waiting, self.loop.time, self.loop.call_later, feed_tokens)

    def add(self, name: str, tokens: float) -> None:
        pending = self.prompts[name] = self.hold_queue.add(tokens, self.loop.now, is_heard=True)
        if pending.row < 0:
            self.sent.append(name)
        else:
            pending.send = lambda: self.sent.append(name)

    def first_token(self, name: str) -> None:
        self.backlog.first_token(self.prompts[name], self.loop.now)
        self.backlog.on_speed(self.loop.now)
        self.hold_queue.feed(self.loop.now)

    def end(self, name: str) -> None:
        self.hold_queue.end(self.prompts.pop(name), self.loop.now)


def test_an_instance_gets_one_long_prompt_at_a_time_the_shortest_first() -> None:
    bench = Bench()
    for name, tokens in {"a": 3000, "b": 2000, "c": 1000, "d": 1500}.items():
        bench.add(name, tokens)
    assert bench.sent == ["a"]
    bench.loop.advance(2.9)
    assert bench.sent == ["a"]
    bench.first_token("a")
    assert bench.sent == ["a", "c"]
    for name in "cdb":
        bench.loop.advance(0.5)
        bench.first_token(name)
    assert bench.sent == ["a", "c", "d", "b"]
    assert [bench.prompts[name].is_reordered for name in "abcd"] == [False, True, True, True]
    assert not bench.loop.timers


def test_the_next_one_is_sent_just_before_the_instance_is_done() -> None:
    bench = Bench()
    bench.add("a", 3000)
    bench.add("b", 2000)
    bench.loop.advance(3 - 2 * LEAD)
    assert bench.sent == ["a"]
    bench.loop.advance(LEAD)
    assert bench.sent == ["a", "b"]
    bench.add("c", 600)
    bench.loop.advance(60)  # nothing is heard: no more is sent there
    assert bench.sent == ["a", "b"]


def test_short_prompts_are_sent_at_once_for_the_engine_may_batch_them() -> None:
    bench = Bench(feed_tokens=500)
    for name in "abcdef":
        bench.add(name, 100)
    assert bench.sent == list("abcde")
    bench.first_token("a")
    assert bench.sent == list("abcdef")


def test_nobody_is_overtaken_for_ever() -> None:
    bench = Bench()
    bench.add("a", 1000)
    bench.add("long", 5000)
    patience = 4 / AGEING
    bench.loop.advance(0.9)
    bench.add("b", 1000)
    bench.first_token("a")
    assert bench.sent[-1] == "b"
    bench.loop.now += patience
    bench.add("c", 1000)
    bench.first_token("b")
    assert bench.sent[-1] == "long"


def test_nothing_waits_without_a_timer_or_when_told_so() -> None:
    bench = Bench(feed_tokens=0)
    for name in "abc":
        bench.add(name, 1000)
    assert bench.sent == list("abc")


def test_nobody_waits_for_what_will_not_be_told() -> None:
    bench = Bench()
    bench.hold_queue.add(1000, 0.0, is_heard=False)
    bench.add("a", 1000)  # whose first token ends the wait of the next
    bench.add("b", 1000)
    assert bench.sent == ["a"]
    bench.end("a")
    assert bench.sent == ["a", "b"]
    new = Bench()
    new.backlog.speed.is_known = False
    for name in "abc":
        new.add(name, 1000)
    assert new.sent == ["a", "b", "c"]


def test_one_whose_request_is_over_is_not_sent() -> None:
    bench = Bench()
    for name in "abc":
        bench.add(name, 1000)
    bench.end("b")
    bench.end("a")
    assert bench.sent == ["a", "c"]
    bench.end("c")
    assert (bench.backlog.running, len(bench.waiting), bench.loop.timers) == (0, 0, [])


def test_when_the_instance_is_gone_all_are_told() -> None:
    bench = Bench()
    for name in "abc":
        bench.add(name, 1000)
    bench.hold_queue.clear(0.0)
    assert bench.sent == ["a", "b", "c"]
    assert not bench.loop.timers


def test_so_many_may_wait_and_then_the_shortest_goes() -> None:
    bench = Bench()
    for number in range(MOST + 1):
        bench.add(str(number), 1000)
    assert bench.sent == ["0"]
    bench.add("short", 600)
    assert bench.sent == ["0", "short"]
    assert len(bench.waiting) == MOST


def test_what_waits_weighs_on_a_new_prompt() -> None:
    bench, columns = Bench(), FleetColumns()
    candidates = fleet(0, 0)
    waiting = HeldPrompts(columns)
    backlogs = [
        PrefillQueue(PrefillSpeed(speed), columns, columns.slot(candidates[place].url))
        for place, speed in ((0, 1000.0), (1, 500.0))
    ]
    for backlog in backlogs:
        backlog.speed.is_known = True
    hold_queues = [
        HoldQueue(backlog, slot, waiting, bench.loop.time, bench.loop.call_later, 1)
        for slot, backlog in enumerate(backlogs)
    ]
    for hold_queue, sizes in zip(hold_queues, ((9000, 1000, 2000), (9000, 3000)), strict=True):
        for tokens in sizes:  # the first of them is sent
            hold_queue.add(tokens, 0.0, is_heard=True)
    columns.look_at(candidates)
    before, behind = waiting.weigh(np.array([1.5, 3.0]), np.array([0.001, 0.002]), 0.0)
    assert before.tolist() == [1.0, 0.0]
    assert behind.tolist() == [1, 1]
    columns.look_at(candidates[::-1])
    before, behind = waiting.weigh(np.array([6.0, 2.0]), np.array([0.002, 0.001]), 0.0)
    assert before.tolist() == [6.0, 3.0]
    assert behind.tolist() == [0, 0]
    assert (repr(waiting), repr(hold_queues[1])) == ("<HeldPrompts: 3 prompts>", "<HoldQueue with 1 prompts>")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3000), st.floats(0, 2)), max_size=80), st.randoms())
def test_each_is_sent_once_or_over(steps: list[tuple[int, int, float]], rng: random.Random) -> None:
    bench = Bench()
    for number, (what, tokens, secs) in enumerate(steps):
        bench.loop.advance(secs)
        if what < 2 or not bench.prompts:
            bench.add(str(number), tokens)
        else:
            name = rng.choice(sorted(bench.prompts))
            is_sent = bench.prompts[name].row < 0
            if is_sent:
                bench.first_token(name)
            if what == 3 or is_sent:
                bench.end(name)
        rows = sorted(pending.row for pending in bench.prompts.values() if pending.row >= 0)
        assert rows == list(range(len(bench.waiting)))
        assert bench.backlog.running == len(bench.prompts)
        assert bool(bench.loop.timers) == bool(rows)
    while bench.prompts:
        sent = [name for name, pending in bench.prompts.items() if pending.row < 0]
        assert sent, "somebody waits for nothing"
        bench.first_token(sent[0])
        bench.end(sent[0])
    assert len(bench.sent) == len(set(bench.sent))
    assert bench.backlog.seconds(bench.loop.now) == pytest.approx(0.0)
