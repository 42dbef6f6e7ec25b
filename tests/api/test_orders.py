"""What is done to its end though its caller leaves."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from fd_router.api.orders import Orders


async def test_an_order_goes_on_though_who_waits_for_it_is_cancelled() -> None:
    orders, gate, done = Orders(), asyncio.Event(), []

    async def order() -> int:
        await gate.wait()
        done.append(True)
        return 7

    waiting, leaving = (asyncio.create_task(orders.carry_out(order())) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gc.collect()
    assert repr(orders) == "<Orders, 2 under way>"
    gate.set()
    assert await waiting == 7
    await asyncio.sleep(0)
    assert (len(done), repr(orders)) == (2, "<Orders, 0 under way>")


async def test_what_it_raises_is_its_callers_to_know() -> None:
    async def order() -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Orders().carry_out(order())
