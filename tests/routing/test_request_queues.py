"""A queue for each model, which take turns where they wait for the same instances."""

from __future__ import annotations

import weakref
from typing import Any

from fd_router.instances.group_key import ANY_MODEL
from fd_router.routing.request_queues import RequestQueues


class Queue:
    """Notes when it is told that there may be room."""

    def __init__(self, told: list[Any]) -> None:
        self.told = told
        self.waiting = 0

    def on_capacity(self) -> None:
        self.told.append(self)

    def lengths(self) -> dict[str, int]:
        return {"high": 0, "normal": self.waiting}


def queues() -> tuple[Any, list[Any]]:
    told: list[Any] = []
    return RequestQueues(lambda: Queue(told)), told  # type: ignore[arg-type,return-value]


def test_one_for_each_model() -> None:
    made, _ = queues()
    assert made.of(ANY_MODEL) is made.default
    assert made.of("a") is made.of("a") is not made.of("b")


def test_each_is_the_first_to_be_told_in_its_turn() -> None:
    made, told = queues()
    a, b, c = (made.of(name) for name in "abc")
    firsts = []
    for _ in range(6):
        told.clear()
        made.on_capacity()
        assert told[0] is made.default
        assert set(told[1:]) == {a, b, c}
        firsts.append(told[1])
    assert firsts.count(a) == firsts.count(b) == firsts.count(c) == 2


def test_lengths_are_those_of_all() -> None:
    made, _ = queues()
    made.default.waiting, made.of("a").waiting, made.of("b").waiting = 1, 2, 3
    assert made.lengths() == {"high": 0, "normal": 6}


def test_one_whose_model_is_gone_goes_when_nobody_waits_there_nor_can() -> None:
    made, told = queues()
    a, b, c = (made.of(name) for name in "abc")
    a.waiting = 1
    made.keep({"c"})
    assert (made.of("a") is a, made.of("c") is c) == (True, True)
    gone = weakref.ref(b)
    del b
    assert gone() is None
    made.on_capacity()
    assert set(told) == {made.default, a, c}


def test_one_where_a_request_under_way_may_wait_yet_goes_on_though_its_model_is_gone() -> None:
    made, told = queues()
    a = made.of("a")  # as a request has it that was sent, and may have to be sent again
    made.keep(())
    a.waiting = 1
    made.on_capacity()
    assert set(told) == {made.default, a}
    assert made.lengths()["normal"] == 1
    assert made.of("a") is a  # its instances are back
    made.keep({"a"})
    made.keep(())
    assert made.of("a") is a
