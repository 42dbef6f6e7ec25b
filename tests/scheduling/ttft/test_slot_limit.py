"""Slots that are learnt: an instance of three, seen through first tokens and ends only."""

from __future__ import annotations

from fd_router.scheduling.ttft.slot_limit import FIRST_GUESS, UNKNOWN, SlotLimit

PREFILL = 0.1  # seconds that a prefill is expected to take


def full(slots: SlotLimit, number: int = 3) -> None:
    for _ in range(number):
        slots.on_first_token()


def test_nothing_is_known_at_first() -> None:
    slots = SlotLimit()
    full(slots, 100)
    assert (slots.limit, slots.residence) == (UNKNOWN, FIRST_GUESS)
    assert repr(slots) == "<SlotLimit 1e+09, 100 decoding>"


def test_a_late_first_token_shows_that_it_is_full_at_once() -> None:
    slots = SlotLimit()
    full(slots)
    slots.on_stall()
    assert slots.limit == 3


def test_a_first_token_more_refutes_it() -> None:
    slots = SlotLimit()
    full(slots)
    slots.on_stall()
    slots.on_first_token()
    assert slots.limit == UNKNOWN


def test_one_that_comes_when_another_ends_confirms_it() -> None:
    slots = SlotLimit()
    full(slots)
    slots.on_stall()
    slots.on_end(2.0, 5.0)
    slots.on_first_token()
    assert slots.prefill_secs(3.0, PREFILL, 5.125) == 0.125
    assert slots.limit == 3
    slots.on_end(2.0, 6.0)
    assert slots.limit == 3  # though fewer decode now
    full(slots)
    assert slots.limit == 5  # it was more than that


def test_two_late_ones_confirm_it_without_a_decision_between() -> None:
    slots = SlotLimit()
    full(slots)
    secs = []
    for at in (5.0, 6.0):
        slots.on_end(at - 3, at)
        slots.on_first_token()
        secs.append(slots.prefill_secs(4.0, PREFILL, at + 0.125))
    assert secs == [-1.0, 0.125]  # the first may have had another reason; of the second only the prefill counts
    assert slots.limit == 3
    assert slots.residence == 3.0


def test_what_the_prefill_explains_says_nothing() -> None:
    slots = SlotLimit()
    full(slots)
    slots.on_end(2.0, 5.0)
    slots.on_first_token()
    assert slots.prefill_secs(0.15, PREFILL, 5.1) == 0.15  # hardly late
    assert slots.prefill_secs(9.0, PREFILL, 9.0) == 9.0  # late, but nobody had ended just before
    assert slots.limit == UNKNOWN


def test_what_one_has_shown_holds_for_those_that_were_never_full() -> None:
    fleet = SlotLimit()
    one, other = SlotLimit(fleet), SlotLimit(fleet)
    full(one, 5)
    one.on_stall()
    one.on_end(2.0, 5.0)
    one.on_first_token()
    one.prefill_secs(3.0, PREFILL, 5.1)
    assert (one.limit, other.limit) == (5, 5)
    full(other, 7)
    assert (one.limit, other.limit) == (5, 7)


def test_what_one_seems_to_show_holds_for_the_others_as_long_as_it_does() -> None:
    fleet = SlotLimit()
    one, other = SlotLimit(fleet), SlotLimit(fleet)
    full(one, 5)
    one.on_stall()
    assert (one.limit, other.limit) == (5, 5)
    assert not other.is_full
    full(other, 5)
    assert other.is_full
    other.on_first_token()  # which was not late
    assert (one.limit, other.limit) == (5, UNKNOWN)


def test_one_that_is_full_with_few_says_nothing_of_the_others() -> None:
    fleet = SlotLimit()
    one, other = SlotLimit(fleet), SlotLimit(fleet)
    full(one, 3)
    one.on_stall()
    assert (one.limit, other.limit) == (3, UNKNOWN)


def test_one_that_waited_for_what_is_not_counted_here_makes_the_limit_one_more() -> None:
    fleet = SlotLimit()
    one, other = SlotLimit(fleet), SlotLimit(fleet)
    full(one, 7)
    one.on_stall()
    one.on_first_token()
    assert one.prefill_secs(0.5, PREFILL, 9.0) == -1.0  # another router's request has ended, perhaps
    assert (one.limit, other.limit) == (8, 8)
    one.on_first_token()
    assert one.prefill_secs(PREFILL, PREFILL, 9.1) == PREFILL
    assert (one.limit, other.limit) == (UNKNOWN, UNKNOWN)


def test_one_that_waited_for_no_end_tells_the_speed_and_that_nobody_is_full() -> None:
    fleet = SlotLimit()
    one, other, full_with_less = SlotLimit(fleet), SlotLimit(fleet), SlotLimit(fleet)
    full(one, 6)
    one.on_stall()
    one.on_end(2.0, 5.0)
    one.on_first_token()
    assert one.prefill_secs(4.0, PREFILL, 7.0) == 4.0  # 2 s after that end
    assert (one.limit, other.limit) == (UNKNOWN, UNKNOWN)
    one.on_stall()
    full(full_with_less, 5)
    full_with_less.on_stall()
    for at in (7.5, 8.0):
        one.on_end(2.0, at)
    one.on_first_token()
    assert one.prefill_secs(4.0, PREFILL, 10.0) == 4.0
    assert (one.limit, other.limit) == (6, 5)  # one has had six
