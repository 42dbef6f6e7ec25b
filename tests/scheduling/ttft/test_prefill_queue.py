"""The queue of one instance: worked examples at 1,000 tokens/s."""

from __future__ import annotations

import pytest

from fd_router.scheduling.ttft.columns import RESERVED_FOR_ADMIN, FleetColumns
from fd_router.scheduling.ttft.prefill_queue import PrefillQueue, PromptWork
from fd_router.scheduling.ttft.prefill_speed import PrefillSpeed
from tests.support.scheduling_fakes import FakeCandidate


@pytest.fixture
def columns() -> FleetColumns:
    return FleetColumns()


@pytest.fixture
def backlog(columns: FleetColumns) -> PrefillQueue:
    return PrefillQueue(PrefillSpeed(1000.0), columns, columns.slot("a"))


def first_token(backlog: PrefillQueue, pending: PromptWork, now: float) -> float:
    """A first token comes, of which the policy learns nothing."""
    secs = backlog.first_token(pending, now)
    backlog.on_speed(now)
    return secs


def test_prompts_queue_up(backlog: PrefillQueue) -> None:
    backlog.add(1000, 10.0, is_heard=True)
    backlog.add(500, 10.2, is_heard=True)
    assert backlog.seconds(10.2) == pytest.approx(1.3)
    assert backlog.tokens == 1500
    assert backlog.prefill_seconds(99.0) == pytest.approx(0.5)  # the first is late; the other can't have begun
    assert backlog.seconds(99.0) == pytest.approx(0.5 + 99 - backlog.due)  # and takes as long again as it is late
    assert repr(backlog) == "<PrefillQueue of 2 prompts, 1500 tokens, 2 running>"


def test_what_comes_behind_a_late_prompt_waits_for_it(backlog: PrefillQueue) -> None:
    backlog.add(1000, 0.0, is_heard=True)
    backlog.add(1000, 5.0, is_heard=True)
    assert backlog.prefill_seconds(5.0) == pytest.approx(1.0)


def test_first_tokens_in_order_tell_how_long_each_took(backlog: PrefillQueue) -> None:
    first, second = (backlog.add(1000, 0.0, is_heard=True) for _ in range(2))
    assert first_token(backlog, first, 1.5) == 1.5
    assert backlog.seconds(1.5) == 1.0
    assert first_token(backlog, second, 2.1) == pytest.approx(0.6)
    assert backlog.seconds(2.1) == 0
    assert first_token(backlog, second, 2.2) < 0  # told twice
    late = backlog.add(1000, 7.0, is_heard=True)
    assert first_token(backlog, late, 8.0) == 1.0  # idle before


def test_an_engine_may_take_a_short_one_first(backlog: PrefillQueue) -> None:
    long, short = backlog.add(4000, 0.0, is_heard=True), backlog.add(100, 0.0, is_heard=True)
    assert first_token(backlog, short, 0.5) == 0.5
    assert backlog.seconds(0.5) == pytest.approx(3.6)
    assert backlog.behind == 0
    first_token(backlog, long, 4.1)
    assert backlog.seconds(4.1) == 0


def test_one_that_ends_unprefilled_makes_room(backlog: PrefillQueue) -> None:
    first, second, third = (backlog.add(1000, 0.0, is_heard=True) for _ in range(3))
    backlog.end(second, 0.5)
    assert backlog.seconds(0.5) == pytest.approx(1.5)
    backlog.end(first, 0.5)
    assert backlog.seconds(0.5) == pytest.approx(1.0)
    backlog.end(third, 0.5)
    assert (backlog.seconds(0.5), backlog.tokens, backlog.running) == (0, 0, 0)


def test_one_that_is_not_heard_of_is_done_when_one_behind_it_is(backlog: PrefillQueue) -> None:
    backlog.speed.is_known = True
    silent = backlog.add(1000, 0.0, is_heard=False)
    heard = backlog.add(1000, 0.0, is_heard=True)
    assert backlog.behind == 0
    assert first_token(backlog, heard, 2.5) < 0  # it was of both together
    assert (backlog.seconds(2.5), backlog.tokens) == (0, 0)
    backlog.end(silent, 9.0)
    assert backlog.running == 1


def test_those_of_a_step_whose_time_tells_nothing_tell_nothing_either(backlog: PrefillQueue) -> None:
    backlog.speed.is_known = True
    backlog.add(1000, 0.0, is_heard=False)
    first, second, third = (backlog.add(1000, 0.0, is_heard=True) for _ in range(3))
    assert first_token(backlog, first, 4.0) < 0  # what wasn't heard of is in it
    assert first_token(backlog, second, 4.0) < 0  # else its tokens would count, and took no time
    assert first_token(backlog, third, 5.0) == 1.0


def test_what_is_left_is_reckoned_anew_by_another_speed(columns: FleetColumns) -> None:
    fleet = PrefillSpeed(1000.0)
    backlog = PrefillQueue(fleet, columns, columns.slot("a"))
    backlog.add(1000, 10.0, is_heard=True)
    backlog.add(1000, 10.0, is_heard=True)
    fleet.observe(400_000, 100.0)
    speed = backlog.speed.tokens_per_sec
    assert speed > 3900
    backlog.on_speed(10.1)
    assert backlog.until == pytest.approx(10.0 + 2000 / speed)
    assert backlog.behind == pytest.approx(1000 / speed)
    assert columns.until[0] == backlog.until
    assert columns.pace[0] == pytest.approx(1 / speed)
    backlog.on_speed(10.2)  # which is the same still
    assert backlog.until == pytest.approx(10.0 + 2000 / speed)


def test_an_empty_queue_stays_empty_whatever_the_speed(columns: FleetColumns) -> None:
    fleet = PrefillSpeed(1000.0)
    backlog = PrefillQueue(fleet, columns, columns.slot("a"))
    first_token(backlog, backlog.add(1000, 10.0, is_heard=True), 11.0)
    fleet.observe(400_000, 100.0)
    backlog.on_speed(11.0)
    assert backlog.seconds(11.0) == 0


def test_those_of_the_next_step_raise_the_price_of_one_more(columns: FleetColumns, backlog: PrefillQueue) -> None:
    def prices() -> tuple[float, float]:
        return float(columns.price[0]) * 1000, float(columns.step_price[0]) * 1000

    assert prices() == pytest.approx((1.0, 1.0))
    first = backlog.add(1000, 10.0, is_heard=True)
    assert prices() == pytest.approx((1.1, 1.1))  # it is being computed
    second, third = (backlog.add(1000, 10.1, is_heard=True) for _ in range(2))
    assert prices() == pytest.approx((1.3, 1.3 + 2 * 0.9))  # both wait, so each second more is a second to each
    backlog.end(third, 10.2)
    assert prices() == pytest.approx((1.2, 1.2 + 0.9))
    first_token(backlog, first, 11.0)
    assert prices() == pytest.approx((1.2, 1.2))  # their step has begun
    first_token(backlog, second, 12.0)
    backlog.add(10_000, 13.0, is_heard=True)  # more than a step: the rest is computed in the next one
    assert prices() == pytest.approx((1.3, 1.3 + 0.9))


def test_columns_show_it(columns: FleetColumns, backlog: PrefillQueue) -> None:
    class Named(FakeCandidate):
        def __init__(self, url: str) -> None:
            super().__init__(1)
            self.url = url

    backlog.add(1000, 10.0, is_heard=True)
    backlog.add(500, 10.0, is_heard=True)
    other = PrefillQueue(PrefillSpeed(500.0), columns, columns.slot("b"))
    for candidates in ([Named("a"), Named("b")], [Named("b"), Named("a")]):
        at = columns.look_at(candidates)
        until, behind, pace, running = (
            column[at] for column in (columns.until, columns.behind, columns.pace, columns.running)
        )
        rows = dict(zip([each.url for each in candidates], zip(until, behind, pace, running, strict=True), strict=True))
        assert rows == {"a": (11.5, 0.5, 0.001, 2), "b": (0, 0, 0.002, 0)}
    assert other.seconds(1.0) == 0
    assert repr(columns) == "<FleetColumns of 2 instances>"


def test_slots_are_used_again(columns: FleetColumns) -> None:
    for number in range(3 * RESERVED_FOR_ADMIN):
        columns.slot(str(number))
    assert columns.gone([FakeCandidate(number) for number in range(3 * RESERVED_FOR_ADMIN)]) == []
    assert columns.gone([FakeCandidate(1)]) == []  # the others were tried, or are full
    for number in range(3 * RESERVED_FOR_ADMIN, 12 * RESERVED_FOR_ADMIN):
        columns.slot(str(number))
    columns.running[7] = 1
    gone = columns.gone([])
    assert len(gone) == 12 * RESERVED_FOR_ADMIN - 1
    for url in gone:
        columns.forget(url)
    assert columns.slot("new") < 12 * RESERVED_FOR_ADMIN
    assert len(columns) == 2
    assert columns.gone([]) == []
