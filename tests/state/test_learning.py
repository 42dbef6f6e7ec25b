"""The topic of what policies that learn have at instances: what waits at one router is known to the others."""

from __future__ import annotations

import math

import msgspec
import pytest

from fd_router.state.topics.learning import MOST_HELD, SharedLearning

URL = "http://10.0.0.1:8000"


class Learner:
    """Has work at one instance, and keeps what it is told."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, float]] = []
        self.running = 0
        self.elsewhere: dict[str, list[tuple[float, float]]] = {}

    def work(self):
        if self.running:
            yield URL, 100.0, sum(tokens for _, tokens in self.waiting), self.running

    def held(self, url):
        return self.waiting if url == URL else []

    def count_elsewhere(self, url, tokens, running):
        pass

    def held_elsewhere(self, process, url, held):
        assert url == URL
        self.elsewhere[process] = list(held)


def pair():
    topics, learners = [SharedLearning(), SharedLearning()], [Learner(), Learner()]
    for topic, learner in zip(topics, learners, strict=True):
        topic.join(learner)
    return topics, learners


def tell(topics, *, whole=False, is_lost=False):
    payload = topics[0].gather(whole=whole)
    if payload is not None and not is_lost:
        topics[1].take("one", msgspec.Raw(payload))


def test_what_waits_at_one_is_told_whenever_it_changes() -> None:
    topics, (one, two) = pair()
    one.running, one.waiting = 2, [(1.5, 300.0), (2.5, 500.0)]
    tell(topics)
    assert two.elsewhere == {"one": one.waiting}
    one.waiting = one.waiting[1:]
    tell(topics)
    assert two.elsewhere == {"one": [(2.5, 500.0)]}
    one.waiting = []
    tell(topics)
    assert two.elsewhere == {"one": []}


def test_a_message_that_was_lost_is_made_good_by_the_next_whole_one() -> None:
    topics, (one, two) = pair()
    one.running, one.waiting = 1, [(1.5, 300.0)]
    tell(topics)
    one.running, one.waiting = 0, []
    tell(topics, is_lost=True)
    assert two.elsewhere == {"one": [(1.5, 300.0)]}
    tell(topics, whole=True)
    assert two.elsewhere == {"one": []}


def test_nothing_waits_at_a_router_that_is_gone_and_too_many_are_not_told() -> None:
    topics, (one, two) = pair()
    one.running, one.waiting = 1, [(float(rank), 10.0) for rank in range(MOST_HELD + 5)]
    tell(topics)
    assert two.elsewhere == {"one": one.waiting[:MOST_HELD]}
    topics[1].forget("one")
    assert two.elsewhere == {"one": []}


@pytest.mark.parametrize(
    "told",
    [
        {"held": {URL: [(math.nan, 1.0)]}},
        {"held": {URL: [(math.inf, 1.0)]}},
        {"held": {URL: [(1.0, -1.0)]}},
        {"observed": [(URL, math.nan, 1.0)]},
        {"observed": [(URL, 1.0, math.inf)]},
        {"work": {URL: (math.nan, 0.0, 0.0)}},
        {"work": {URL: (-1.0, 0.0, 0.0)}},
        {"sizes": {URL: math.inf}},
        {"speeds": {URL: (1.0, math.nan, 1.0)}},
    ],
)
def test_figures_that_are_none_are_refused_whole(told) -> None:
    topics, (_, two) = pair()
    with pytest.raises(msgspec.ValidationError):
        topics[1].take("one", msgspec.Raw(msgspec.msgpack.encode(told)))
    assert not two.elsewhere


def test_a_policy_that_comes_while_a_newcomer_is_told_takes_nothing_from_it() -> None:
    topics, (one, _) = pair()
    for learner in (one, another := Learner()):
        learner.learnt = lambda: ({"": (1.0, 2.0, 3.0)}, {})
    topics[0].join(another)
    snapshot = topics[0].snapshot()
    parts = [next(snapshot)]
    topics[0].join(third := Learner())  # a model of its own has come
    parts += snapshot
    assert len(parts) == 2
    assert third is not another


def test_a_process_that_is_idle_asks_no_policy_until_it_tells_all() -> None:
    [topic, _], (one, _) = pair()
    asked = []
    one.work = lambda: asked.append(1) or iter(())
    topic.is_idle = lambda: True
    assert topic.gather(whole=False) is None
    assert not asked
    topic.observed(URL, 10.0, 0.1)
    assert topic.gather(whole=False) is not None
    topic.gather(whole=True)
    assert len(asked) == 2
