"""Who goes first of those that wait in the router for an instance: worked examples at 1,000 tokens/s."""

from __future__ import annotations

import pytest

from fd_router.errors import HttpError
from fd_router.openai.precedence import Precedence
from fd_router.scheduling.ttft.turns import Turns, check_deadline, offset_of
from tests.scheduling.ttft.test_held_prompts import Bench

HIGH, NORMAL, LOW = (Precedence(name, weight) for name, weight in (("high", 16.0), ("normal", 4.0), ("low", 1.0)))


class Waits(Bench):
    """One prompt is under way; the others wait, and go one after the other."""

    def __init__(self) -> None:
        super().__init__(feed_tokens=1.0)
        self.add("under way", 10_000)

    def wait(self, name: str, tokens: float, precedence: Precedence | None = NORMAL) -> None:
        pending = self.prompts[name] = self.hold_queue.add(tokens, self.loop.now, is_heard=True, precedence=precedence)
        assert pending.row >= 0
        pending.send = lambda: self.sent.append(name)

    def order(self) -> list[str]:
        """Let all be computed; return the order in which those that waited went."""
        for _ in range(100):
            name = self.sent[-1]
            if name not in self.prompts:
                break
            self.loop.now += self.prompts[name].tokens / 1000
            self.first_token(name)
            self.end(name)
        return self.sent[1:]


def test_equals_go_by_their_lengths() -> None:
    waits = Waits()
    for name, tokens in (("long", 900), ("short", 100), ("middle", 500)):
        waits.wait(name, tokens)
    assert waits.order() == ["short", "middle", "long"]


def test_a_higher_priority_goes_before_and_a_lower_one_has_its_share() -> None:
    waits = Waits()
    for number in range(20):
        waits.wait(f"low {number}", 100, LOW)
        waits.wait(f"normal {number}", 100)
    for number in range(8):
        waits.wait(f"high {number}", 900, HIGH)
    order = [name.split()[0] for name in waits.order()]
    assert len(order) == 48
    assert order[0] == "high"  # of those that have come as far the heaviest
    assert [order[:10].count(name) for name in ("high", "normal", "low")] == [7, 2, 1]
    rest = order[11:31]  # high ones are all gone: the others share by 4 to 1
    assert rest.count("normal") in {15, 16, 17}


def test_deadlines_that_can_be_met_go_first_the_earliest_of_them_before_the_others() -> None:
    waits = Waits()
    waits.wait("calm", 10)
    waits.wait("later", 100, Precedence("normal", 4.0, deadline=40.0))
    waits.wait("sooner", 500, Precedence("normal", 4.0, deadline=20.0))
    waits.wait("in vain", 100, Precedence("normal", 4.0, deadline=1.0))
    assert waits.order() == ["sooner", "later", "calm", "in vain"]


def test_a_party_with_many_keeps_nobody_else_waiting_but_a_prompt_that_is_alone_goes_by_its_length() -> None:
    waits = Waits()
    many, other = Precedence("normal", 4.0, party="key many"), Precedence("normal", 4.0, party="key other")
    for number in range(5):
        waits.wait(f"many {number}", 400, many)
    waits.wait("other", 600, other)
    assert waits.order() == ["many 0", "other", "many 1", "many 2", "many 3", "many 4"]


def test_a_wait_is_predicted_by_the_precedence() -> None:
    assert offset_of(None) == 0.0
    hurried = Precedence("normal", 4.0, deadline=1.0)
    assert offset_of(HIGH) < offset_of(hurried) < offset_of(NORMAL) < offset_of(LOW)


def test_one_that_would_be_late_is_refused_where_it_wants_to_be() -> None:
    late = Precedence(deadline=10.0, refuses_late=True)
    check_deadline(late, 8.0, 2.0)
    check_deadline(Precedence(deadline=10.0), 8.0, 2.1)
    with pytest.raises(HttpError, match=r"would come in 2\.10 s; the request's deadline is in 2\.00 s") as caught:
        check_deadline(late, 8.0, 2.1)
    assert (caught.value.status, caught.value.code) == (503, "deadline_unmeetable")


def test_a_priority_that_nobody_asked_for_claims_no_turns_that_it_missed() -> None:
    turns, waits = Turns(), Waits()
    for name, precedence in (("a", NORMAL), ("b", LOW)):
        waits.wait(name, 100, precedence)
    for _ in range(100):
        turns.took(waits.prompts["a"])
    turns.took(waits.prompts["b"])
    assert turns.first([waits.prompts["b"], waits.prompts["a"]], 0.0, 1000.0) is waits.prompts["a"]
