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
