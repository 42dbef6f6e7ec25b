"""What a refusal by the word of all routers leaves behind: nothing that only the garbage collector could free."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import pytest

from fd_router.admission.allowance import Allowance
from fd_router.admission.keys import ApiKey
from fd_router.admission.shared_limits import SharedLimits
from fd_router.bus import Ask, BusError, Grant
from fd_router.errors import LimitError
from tests.support.no_collector import leaves_nothing


class FullBus:
    """Lets one request in, and then none; or doesn't answer."""

    def __init__(self) -> None:
        self.granted = 1
        self.fails = False

    async def reserve(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        if self.fails:
            raise BusError("gone")
        granted, self.granted = self.granted, 0
        return [Grant(granted, 0.0, 0.0) for _ in asks]


class Counted:
    """Counts who judged."""

    def __init__(self) -> None:
        self.judged: list[str] = []

    def reserved(self, by: str, requests: int) -> None:
        self.judged += [by] * requests


async def ask(limits: SharedLimits, allowance: Allowance) -> str:
    try:
        await limits.take(allowance, 1)
    except LimitError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", ["by the set", "the set is late", "alone"])
async def test_a_refusal_leaves_nothing_to_the_collector(how: str) -> None:
    bus, counted = FullBus(), Counted()
    bus.fails = how == "the set is late"
    limits = SharedLimits(
        bus,  # type: ignore[arg-type]
        is_up=lambda: how != "alone",
        size=lambda: 1,
        clock=time.monotonic,
        counters=counted,
    )
    allowance = Allowance(ApiKey(name="one", sha256="0" * 64, requests_per_minute=1), time.monotonic())
    with leaves_nothing(LimitError):
        answers = [await ask(limits, allowance) for _ in range(3)]
        await asyncio.sleep(0)
    assert answers[0] == ""
    assert all("1 requests a minute" in answer for answer in answers[1:])
    assert counted.judged == ["set" if how == "by the set" else "share"] * 3
    with contextlib.suppress(AttributeError):
        limits._settling.cancel()  # type: ignore[union-attr]


class LateBus:
    """Gives its word when the test says so, and keeps what it was told."""

    def __init__(self) -> None:
        self.words: list[asyncio.Future[Sequence[Grant]]] = []
        self.settled: list[int] = []

    async def reserve(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        word = asyncio.get_running_loop().create_future()
        self.words.append(word)
        granted: Sequence[Grant] = await word
        return granted

    async def settle(self, ask: Ask, requests: int) -> None:
        self.settled.append(requests)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> tuple[LateBus, SharedLimits, Counted, Allowance]:
    """Routers of which this is one of two, for which every word is late; a key of 10 requests a minute."""
    monkeypatch.setattr("fd_router.admission.shared_limits.WAIT_SECONDS", 0.0)
    bus, counted = LateBus(), Counted()
    limits = SharedLimits(
        bus,  # type: ignore[arg-type]
        is_up=lambda: True,
        size=lambda: 2,
        clock=lambda: 1000.0,
        counters=counted,
    )
    return bus, limits, counted, Allowance(ApiKey(name="one", sha256="0" * 64, requests_per_minute=10), 1000.0)


Late = tuple[LateBus, SharedLimits, Counted, Allowance]


async def test_what_a_late_word_lets_in_is_set_off_against_what_was_let_in_meanwhile(late: Late) -> None:
    bus, limits, counted, allowance = late
    answers = [await ask(limits, allowance) for _ in range(7)]
    assert [answer == "" for answer in answers] == [True] * 5 + [False] * 2  # its half
    assert counted.judged == ["share"] * 7
    assert len(bus.words) == 1  # nobody asks while a word is late
    bus.words[0].set_result([Grant(1, 9.0, 0.0)])  # the first request was let in by the set as well
    for _ in range(5):
        await asyncio.sleep(0)
    asking = asyncio.create_task(ask(limits, allowance))
    for _ in range(5):
        await asyncio.sleep(0)
    assert bus.settled == [4]  # told before the next word is asked for
    assert len(bus.words) == 2
    bus.words[1].set_result([Grant(0, 0.5, 0.0)])
    assert "10 requests a minute" in await asking


async def test_a_word_that_is_there_when_the_clock_is_looked_at_too_late_counts(late: Late) -> None:
    bus, limits, counted, allowance = late
    asking = asyncio.create_task(ask(limits, allowance))
    for _ in range(5):  # turns of the loop: time is over at once
        if not bus.words:
            await asyncio.sleep(0)
    bus.words[0].set_result([Grant(1, 9.0, 0.0)])
    assert await asking == ""
    assert counted.judged == ["set"]


async def test_after_a_late_word_that_never_comes_nobody_asks_for_a_while(late: Late) -> None:
    bus, limits, counted, allowance = late
    assert await ask(limits, allowance) == ""
    bus.words[0].set_exception(BusError("gone"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert await ask(limits, allowance) == ""
    assert len(bus.words) == 1
    assert counted.judged == ["share"] * 2
