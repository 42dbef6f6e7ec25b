"""Waiting in tests, always bounded."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 40.0) -> None:
    """Wait until ``condition``, a plain or an async one, holds. Raises TimeoutError."""
    step = 0.003  # steps are counted: while this process gets no time, the limit doesn't come nearer
    for _ in range(int(seconds / step)):
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        await asyncio.sleep(step)
    raise TimeoutError(f"{getattr(condition, '__qualname__', condition)} never held")
