"""Trials that several routers share: one tries, nobody waits, and without the bus each goes by its own view."""

from __future__ import annotations

import asyncio
from typing import Any

from fd_router.bus import BusError
from fd_router.capacity.shared_trials import ASK_AGAIN_SECONDS, TRIAL_SECONDS, SharedTrials


class Leases:
    """A bus that knows leases only."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.asked: list[tuple[str, float]] = []
        self.fails = False

    async def lease(self, name: str, seconds: float) -> bool:
        await asyncio.sleep(0)
        self.asked.append((name, seconds))
        if self.fails:
            raise BusError("gone")
        is_mine = name not in self.held
        self.held.add(name)
        return is_mine


class Router:
    def __init__(self, bus: Any) -> None:
        self.now = 100.0
        self.is_up = True
        self.told: list[tuple[str, float]] = []
        self.trials = SharedTrials(
            bus, is_up=lambda: self.is_up, clock=lambda: self.now, tell=lambda *told: self.told.append(told)
        )

    async def may(self, key: str = "a:1") -> bool:
        """Ask, and once more when the bus has had its say."""
        if self.trials.may(key):
            return True
        for _ in range(4):
            await asyncio.sleep(0)
        return self.trials.may(key)


async def test_one_of_two_routers_tries() -> None:
    bus = Leases()
    one, other = Router(bus), Router(bus)
    assert not one.trials.may("a:1"), "it is asked for, not waited for"
    assert [await one.may(), await other.may()] == [True, False]
    assert bus.asked == [("trial:a:1", TRIAL_SECONDS)] * 2
    assert await other.may("b:1"), "another instance is another trial"


async def test_one_grant_is_one_trial() -> None:
    bus = Leases()
    router = Router(bus)
    assert await router.may()
    assert not await router.may()


async def test_who_was_refused_asks_again_after_a_while() -> None:
    bus = Leases()
    bus.held.add("trial:a:1")
    router = Router(bus)
    assert not await router.may()
    bus.held.clear()
    assert not await router.may()
    assert len(bus.asked) == 1
    router.now += ASK_AGAIN_SECONDS
    assert await router.may()


async def test_asked_many_times_it_asks_the_bus_once() -> None:
    bus = Leases()
    router = Router(bus)
    assert [router.trials.may("a:1") for _ in range(5)] == [False] * 5
    for _ in range(4):
        await asyncio.sleep(0)
    assert len(bus.asked) == 1


async def test_without_the_bus_it_goes_by_its_own_view() -> None:
    bus = Leases()
    bus.fails = True
    router = Router(bus)
    assert await router.may(), "asking failed"
    router.is_up = False
    assert router.trials.may("a:1"), "it is known to be away"
