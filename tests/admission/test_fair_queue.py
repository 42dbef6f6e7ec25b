from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from fd_router.admission.fair_queue import FairQueue

WEIGHTS = {"high": 16.0, "normal": 4.0, "low": 1.0}


def turns(queue: FairQueue[str], number: int) -> list[str]:
    """Take ``number`` turns; items are called ``priority/…``."""
    taken = []
    for _ in range(number):
        item = queue.first()
        assert item is not None
        queue.take(item, item.partition("/")[0])
        taken.append(item)
    return taken


def test_nothing_waits() -> None:
    queue: FairQueue[str] = FairQueue(WEIGHTS)
    assert (queue.first(), len(queue)) == (None, 0)


def test_first_come_first_served() -> None:
    queue: FairQueue[str] = FairQueue(WEIGHTS)
    items = [f"low/{number}" for number in range(50)]
    for item in items:
        queue.add(item, "low")
    assert turns(queue, 50) == items


def test_one_that_comes_back_is_first() -> None:
    queue: FairQueue[str] = FairQueue(WEIGHTS)
    queue.add("low/1", "low")
    queue.add("low/2", "low", first=True)
    assert turns(queue, 2) == ["low/2", "low/1"]


def test_shares_are_in_proportion_to_the_weights() -> None:
    queue: FairQueue[str] = FairQueue(WEIGHTS)
    for number in range(300):
        for priority in WEIGHTS:
            queue.add(f"{priority}/{number}", priority)
    shares = Counter(item.partition("/")[0] for item in turns(queue, 210))
    assert shares == {"high": 160, "normal": 40, "low": 10}


def test_a_look_costs_no_turn_and_leaving_neither() -> None:
    queue: FairQueue[str] = FairQueue(WEIGHTS)
    queue.add("low/1", "low")
    queue.add("low/2", "low")
    for _ in range(100):
        assert queue.first() == "low/1"
    queue.remove("low/1", "low")
    assert queue.first() == "low/2"
    assert queue.length("low") == len(queue) == 1


def test_a_lane_that_was_empty_has_saved_nothing_up() -> None:
    queue: FairQueue[str] = FairQueue({"a": 1.0, "b": 1.0})
    for number in range(100):
        queue.add(f"a/{number}", "a")
    turns(queue, 50)
    for number in range(100):
        queue.add(f"b/{number}", "b")
    assert Counter(item[0] for item in turns(queue, 20)) == {"a": 10, "b": 10}


def test_a_lane_pays_for_its_turns_after_having_been_empty() -> None:
    """Else a priority that sends its requests one by one would come first each time."""
    queue: FairQueue[str] = FairQueue({"a": 1.0, "b": 1.0})
    for number in range(100):
        queue.add(f"a/{number}", "a")
    served = []
    for number in range(40):
        if not queue.length("b"):
            queue.add(f"b/{number}", "b")
        served += turns(queue, 1)
    assert abs(Counter(item[0] for item in served)["b"] - 20) <= 1


class TestParties:
    def fill(self, *items: str) -> FairQueue[str]:
        queue: FairQueue[str] = FairQueue(WEIGHTS)
        for item in items:
            queue.add(item, "normal", item[0])
        return queue

    def served(self, queue: FairQueue[str]) -> list[str]:
        taken = []
        while (item := queue.first()) is not None and len(taken) < 100:
            queue.take(item, "normal", item[0])
            taken.append(item)
        return taken

    def test_they_take_turns(self) -> None:
        assert self.served(self.fill("a1", "a2", "a3", "b1", "b2", "c1")) == ["a1", "b1", "c1", "a2", "b2", "a3"]

    def test_one_that_comes_back_is_first_and_its_party_has_had_a_turn_then(self) -> None:
        queue = self.fill("a1", "a2", "b1", "b2")
        queue.add("b0", "normal", "b", first=True)
        assert self.served(queue) == ["b0", "a1", "b1", "a2", "b2"]

    def test_one_that_sends_its_requests_one_by_one_waits_for_a_turn_of_each(self) -> None:
        queue = self.fill("a1", "a2", "a3", "a4", "b1")
        taken = []
        for number in range(6):
            item = queue.first()
            assert item is not None
            queue.take(item, "normal", item[0])
            taken.append(item[0])
            if item[0] == "b":
                queue.add(f"b{number}", "normal", "b")
        assert taken == ["a", "b", "a", "b", "a", "b"]

    def test_who_leaves_keeps_nobodys_place(self) -> None:
        queue = self.fill("a1", "b1", "a2", "b2")
        queue.remove("a1", "normal", "a")
        assert self.served(queue) == ["a2", "b1", "b2"]

    def test_the_surplus_is_the_last_of_who_has_most(self) -> None:
        queue = self.fill("a1", "a2", "a3", "b1")
        assert queue.surplus("normal", "b") == "a3"
        assert queue.surplus("normal", "c") == "a3"
        assert queue.surplus("normal", "a") is None
        assert queue.surplus("high", "c") is None

    def test_there_is_no_surplus_over_one_more(self) -> None:
        assert self.fill("a1", "a2", "b1").surplus("normal", "b") is None


@given(st.lists(st.tuples(st.sampled_from(["add", "again", "turn", "leave"]), st.sampled_from(sorted(WEIGHTS)))))
def test_nothing_is_lost_doubled_or_overtaken(steps: list[tuple[str, str]]) -> None:
    queue: FairQueue[str] = FairQueue(WEIGHTS)
    lanes: dict[str, list[str]] = defaultdict(list)
    for number, (step, priority) in enumerate(steps):
        lane, item = lanes[priority], f"{priority}/{number}"
        if step == "add":
            queue.add(item, priority)
            lane.append(item)
        elif step == "again":
            queue.add(item, priority, first=True)
            lane.insert(0, item)
        elif step == "leave" and lane:
            queue.remove(lane.pop(len(lane) // 2), priority)
        elif step == "turn" and (item_ := queue.first()) is not None:
            turn = item_.partition("/")[0]
            queue.take(item_, turn)
            assert lanes[turn].pop(0) == item_
        assert {name: queue.length(name) for name in WEIGHTS} == {name: len(lanes[name]) for name in WEIGHTS}
        assert len(queue) == sum(map(len, lanes.values()))
        assert (queue.first() is None) == (len(queue) == 0)


@given(st.lists(st.integers(1, 100), min_size=2, max_size=5), st.integers(1, 400))
def test_no_share_is_ever_more_than_a_turn_off(weights: list[int], number: int) -> None:
    names = {f"p{place}": float(weight) for place, weight in enumerate(weights)}
    queue: FairQueue[str] = FairQueue(names)
    for name in names:
        for place in range(number):
            queue.add(f"{name}/{place}", name)
    shares = Counter(item.partition("/")[0] for item in turns(queue, number))
    for name, weight in names.items():
        due = number * weight / sum(weights)
        assert due - 1 - weight / min(weights) <= shares[name] <= due + 1 + weight / min(weights)
