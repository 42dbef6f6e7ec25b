from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fd_router.capacity.ticking import Ticking, tick_together
from tests.support.waiting import until


class Part(Ticking):
    def __init__(self, *, fails: bool = False) -> None:
        self.ticks = 0
        self._fails = fails

    def tick(self) -> None:
        self.ticks += 1
        if self._fails:
            raise ValueError("it fails")


async def test_one_that_fails_keeps_neither_the_others_nor_itself_from_the_next_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fd_router.capacity.ticking.TICK_SECONDS", 0.001)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    failing, other = Part(fails=True), Part()
    ticking = asyncio.create_task(tick_together([failing, other]))
    await until(lambda: other.ticks >= 3)
    ticking.cancel()
    assert failing.ticks >= 3
    assert isinstance(told[0]["exception"], ValueError)
