"""``fd-router top`` by its library's pilot: what is on the screen at 80 × 24, and what keys do."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from fd_router.admin.router_client import AdminError
from fd_router.admin.top.app import Top
from fd_router.admin.top.feed import Event
from fd_router.admin.top.rows import figure, milliseconds

HELLO = {"router": {"name": "r1", "version": "1", "policies": {"mixed": "cache_aware"}}, "may_change": True}


def instance(number: int, **more: Any) -> dict[str, Any]:
    entry = {"key": f"10.0.0.{number}:8000", "role": "mixed", "state": "healthy", "flags": [], "running": number}
    return {**entry, "limit": 0, "tokens": 12_345, "rate": 1.5, "failed": 0.0, "ttft_ms": 120.0, **more}


def frame(*instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    traffic = {"rate": 3.0, "failed": 0.0, "ttft_ms": 120.0, "ttft_p95_ms": 240.0, "ms_per_token": 11.0}
    return {"instances": [*instances], "queue": {"normal": 2}, "traffic": traffic, "router": HELLO["router"], **more}


class FakeFeed:
    def __init__(self) -> None:
        self.queue: queue.Queue[Event | Exception | None] = queue.Queue()

    def events(self) -> Iterator[Event]:
        while (item := self.queue.get(timeout=60)) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def stop(self) -> None:
        self.queue.put(None)


class Seat:
    """An operator's place before the screen."""

    def __init__(self) -> None:
        self.feed = FakeFeed()
        self.acts: list[tuple[str, str]] = []
        self.error: AdminError | None = None
        self.app = Top(self.feed, self._act, "http://r:1")

    def _act(self, action: str, key: str) -> None:
        if self.error is not None:
            raise self.error
        self.acts.append((action, key))

    def screen(self) -> str:
        """Return what the terminal shows."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in lines)

    async def shows(self, pilot: Any, words: str) -> None:
        for _ in range(500):
            await pilot.pause(0.01)
            if words in self.screen():
                return
        raise AssertionError(f"{words!r} isn't on\n{self.screen()}")

    async def shows_row(self, pilot: Any, words: str) -> None:
        """As ``shows``, of a line's words however far they are from each other."""
        for _ in range(500):
            await pilot.pause(0.01)
            if any(line.split() == words.split() for line in self.screen().splitlines()):
                return
        raise AssertionError(f"{words!r} is no line of\n{self.screen()}")


@pytest.fixture
def seat() -> Seat:
    return Seat()


async def test_it_shows_a_fleet_in_80_columns_and_24_lines(seat: Seat) -> None:
    async with seat.app.run_test(size=(80, 24), notifications=True) as pilot:
        seat.feed.queue.put(("hello", HELLO))
        trouble = {"kind": "instance", "url": "http://10.0.0.2:8000", "cause": "is dead", "at": 5.0}
        members = instance(1), instance(2, state="unhealthy"), instance(3, flags=["draining"], limit=4)
        seat.feed.queue.put(("state", frame(*members, troubles=[trouble])))
        await seat.shows(pilot, "10.0.0.2:8000 is dead")
        await seat.shows(pilot, "r1 1 at http://r:1 [live] mixed by cache_aware")
        await seat.shows(pilot, "1 of 3 instances may be chosen · 6 running · 2 waiting")
        await seat.shows(pilot, "3 req/s · 0 failed/s · first token 120 ms (95 % < 240 ms) · ≈ 11 ms a token")
        await seat.shows_row(pilot, "10.0.0.3:8000 mixed draining 3/4 12k 1.5 0 120 ms")
        await pilot.press("q")
    assert seat.app.return_value == 0


async def test_the_chosen_instance_is_drained_and_removed_once_that_is_confirmed(seat: Seat) -> None:
    async with seat.app.run_test(size=(80, 24), notifications=True) as pilot:
        seat.feed.queue.put(("state", frame(instance(1), instance(2, flags=["draining"]))))
        await seat.shows(pilot, "10.0.0.2")
        await pilot.press("d", "n", "d")
        await seat.shows(pilot, "drain 10.0.0.1:8000?")
        await pilot.press("y")
        await seat.shows(pilot, "drain 10.0.0.1:8000: done")
        await pilot.press("down")
        seat.feed.queue.put(("state", frame(instance(0), instance(1), instance(2, flags=["draining"]))))
        await seat.shows(pilot, "10.0.0.0")
        await pilot.press("d", "y")  # the cursor is still where it was
        await seat.shows(pilot, "undrain 10.0.0.2:8000: done")
        seat.error = AdminError("a token is needed")
        await pilot.press("r", "y")
        await seat.shows(pilot, "a token is needed")
    assert seat.acts == [("drain", "10.0.0.1:8000"), ("undrain", "10.0.0.2:8000")]


async def test_order_decisions_and_pause(seat: Seat) -> None:
    async with seat.app.run_test(size=(100, 30), notifications=True) as pilot:
        decision = {"role": "mixed", "url": "http://10.0.0.2:8000", "hit": 50, "score": 0.5, "reason": "why", "at": 5.0}
        seat.feed.queue.put(("hello", HELLO))
        seat.feed.queue.put(("state", frame(instance(1), instance(2), decisions=[decision])))
        await seat.shows(pilot, "10.0.0.2")
        await pilot.press("o", "t")
        await seat.shows(pilot, "mixed → 10.0.0.2:8000 hit 50 % score 0.5: why")
        await seat.shows(pilot, "10.0.0.1:8000")
        text = seat.screen()
        assert text.index("10.0.0.2:8000") < text.index("10.0.0.1:8000")  # it has more running
        await pilot.press("p")
        seat.feed.queue.put(("state", frame(instance(7))))
        await seat.shows(pilot, "[paused]")
        assert "10.0.0.7" not in seat.screen()


async def test_who_gave_no_token_reads_why_there_is_nothing_below(seat: Seat) -> None:
    async with seat.app.run_test(size=(80, 24), notifications=True) as pilot:
        seat.feed.queue.put(("hello", {**HELLO, "sees_all": False}))
        await seat.shows(pilot, "only with the admin token (--token-path, FD_ROUTER_ACCESS_ADMIN_TOKEN)")
        await pilot.press("t")
        await seat.shows(pilot, "decisions:")
        assert "only with the admin token" in seat.screen()


async def test_it_says_what_is_wrong(seat: Seat) -> None:
    async with seat.app.run_test(size=(80, 24), notifications=True) as pilot:
        seat.feed.queue.put(("lost", "nothing listens there"))
        await seat.shows(pilot, "[nothing listens there]")
        await pilot.press("d", "r")  # there is nothing to do it with
        seat.feed.queue.put(AdminError("it has no dashboard"))
        for _ in range(500):
            await pilot.pause(0.01)
            if seat.app.problem:
                break
    assert (seat.app.return_value, seat.app.problem) == (1, "it has no dashboard")


def test_figures_fit() -> None:
    assert [figure(value) for value in (None, 0, 1.2345, 150.7, 9_999, 12_345, 2_000_000)] == [
        "–", "0", "1.23", "150.7", "9999", "12k", "2.0M",
    ]  # fmt: skip
    assert [milliseconds(value) for value in (None, 0.523, 120.4, 12_000.0)] == ["–", "0.52 ms", "120 ms", "12.0 s"]
