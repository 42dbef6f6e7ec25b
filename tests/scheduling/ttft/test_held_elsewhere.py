"""What waits at other routers for one instance: worked examples at 1,000 tokens/s."""

from __future__ import annotations

from fd_router.scheduling.ttft.held_elsewhere import PATIENCE, HeldElsewhere, told_rank
from fd_router.scheduling.ttft.held_prompts import AGEING, MOST_OTHERS
from tests.scheduling.ttft.test_held_prompts import Bench


def bench_with(*held: tuple[float, float], feed_tokens: float = 500.0) -> tuple[Bench, HeldElsewhere]:
    """A queue, and what another router holds: (rank, tokens)."""
    bench = Bench(feed_tokens)
    elsewhere = HeldElsewhere(bench.waiting, bench.hold_queue.slot)
    tell(bench, elsewhere, *held)
    return bench, elsewhere


def tell(bench: Bench, elsewhere: HeldElsewhere, *held: tuple[float, float]) -> None:
    elsewhere.know("other", held, bench.loop.now)
    bench.hold_queue.elsewhere = elsewhere or None


def busy_elsewhere(bench: Bench, tokens: float) -> None:
    bench.backlog.count_elsewhere(tokens, 1)
    bench.hold_queue.feed(bench.loop.now)


def test_what_others_have_there_keeps_a_long_prompt_waiting_until_they_tell_of_its_first_token() -> None:
    bench = Bench()
    busy_elsewhere(bench, 2000)
    bench.add("a", 1000)
    bench.add("b", 400)
    bench.loop.advance(1)
    assert bench.sent == []
    busy_elsewhere(bench, 0)
    assert bench.sent == ["b"]


def test_others_are_told_no_prompt_whose_first_token_nobody_hears_of_once_it_should_be_done() -> None:
    bench = Bench()
    pending = bench.backlog.add(1000, 0.0, is_heard=False)
    assert [bench.backlog.tokens_left(now) for now in (0.0, 0.25, 1.0, 2.0)] == [1000, 750, 0, 0]
    bench.backlog.add(500, 2.0, is_heard=True)  # one that will tell of both
    assert bench.backlog.tokens_left(2.0) == bench.backlog.tokens_left(9.0) == 1500
    bench.backlog.end(pending, 9.0)


def test_a_prompt_that_goes_first_elsewhere_is_waited_for_but_not_for_long() -> None:
    bench, elsewhere = bench_with((0.5, 500))
    bench.add("a", 1000)  # the instance could take it
    assert bench.sent == []
    bench.loop.advance(PATIENCE / 2)
    tell(bench, elsewhere)  # the other one was sent
    busy_elsewhere(bench, 500)
    assert bench.sent == []
    busy_elsewhere(bench, 0)
    assert bench.sent == ["a"]
    bench, _ = bench_with((0.5, 500))
    bench.add("a", 1000)
    bench.loop.advance(2 * PATIENCE)  # the other router doesn't send it
    assert bench.sent == ["a"]


def test_one_that_goes_first_here_is_sent_and_age_counts_whatever_others_clocks_say() -> None:
    bench, elsewhere = bench_with((2.0, 2000))
    bench.add("a", 1000)
    assert bench.sent == ["a"]
    bench.end("a")
    bench.loop.advance(4)
    bench.add("b", 1000)  # the other one has waited for 4 s: it goes first now
    assert bench.sent == ["a"]
    assert told_rank(1.0 + AGEING * bench.loop.now, bench.loop.now) == 1.0
    tell(bench, elsewhere, (told_rank(2.0, bench.loop.now), 2000))  # told again: nothing has changed
    bench.loop.advance(2 * PATIENCE)
    assert bench.sent == ["a", "b"]


def test_what_is_forgotten_weighs_nothing_and_there_is_a_bound() -> None:
    bench, elsewhere = bench_with(*((1.0, 100.0) for _ in range(MOST_OTHERS + 5)))
    assert len(bench.waiting) == bench.waiting.others == MOST_OTHERS
    elsewhere.know("another", [(1.0, 1.0)], 0.0)
    assert len(bench.waiting) == MOST_OTHERS
    elsewhere.forget()
    assert not elsewhere
    assert len(bench.waiting) == bench.waiting.others == 0
