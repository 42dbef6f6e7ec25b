"""Prompts on their way to a cache: what they take, what has been told of, what is given up."""

from __future__ import annotations

from fd_router.scheduling.prefix.on_their_way import MOST, PENDING_SECS, OnTheirWay


def test_what_is_told_takes_no_room_any_more_and_settles_what_was_sent_before() -> None:
    prompts = OnTheirWay()
    prompts.sent(11, 5.0, 3)
    prompts.sent(12, 6.0, 4)
    assert (prompts.room(7.0), len(prompts), prompts.settled) == (7, 2, 0.0)
    prompts.sent(13, 7.0, 5)
    prompts.settle([99, 12])
    assert (prompts.room(7.0), len(prompts), prompts.settled) == (5, 1, 6.0)


def test_a_prompt_that_is_sent_again_takes_the_rest_only_and_lives_on() -> None:
    prompts = OnTheirWay()
    prompts.sent(11, 5.0, 3)
    prompts.sent(12, 6.0, 1)
    prompts.sent(11, 8.0, 1)
    assert prompts.room(7.0 + PENDING_SECS) == 4
    assert prompts.room(8.0 + PENDING_SECS) == 0
    assert len(prompts) == 0


def test_all_can_be_given_up() -> None:
    prompts = OnTheirWay()
    prompts.sent(11, 5.0, 3)
    prompts.give_up(9.0)
    assert (prompts.room(9.0), len(prompts), prompts.settled) == (0, 0, 9.0)


def test_no_more_than_so_many_are_remembered() -> None:
    prompts = OnTheirWay()
    for name in range(MOST + 2):
        prompts.sent(name, 5.0, 1)
    assert (prompts.room(5.0), len(prompts)) == (MOST, MOST)
    assert repr(prompts) == f"<OnTheirWay: {MOST} prompts, {MOST} blocks>"
