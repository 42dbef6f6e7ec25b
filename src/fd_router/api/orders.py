"""Orders: what is done to its end though its caller leaves, for half of it would be worse than all, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Orders:
    """Those under way. The handler of a caller who leaves is cancelled, what it waits for here isn't."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[Any]] = set()  # the loop itself keeps only weak references

    async def carry_out(self, order: Coroutine[Any, Any, T]) -> T:
        """Do it, and return what it returns."""
        task = asyncio.get_running_loop().create_task(order)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    def __repr__(self) -> str:
        return f"<Orders, {len(self._under_way)} under way>"
