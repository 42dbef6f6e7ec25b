"""Calls in threads of their own, which keep nothing from ending: a file of a network mount may hang for ever.

asyncio's own pool is waited for when the loop closes, and again when the interpreter ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result], *, limit_secs: float | None = None) -> Result:
    """Return what ``call`` returns, or raise what it raises; TimeoutError after the limit, though it goes on.

    For what comes once in a while: a thread is begun for each call.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    threading.Thread(target=_run, args=(call, loop, future), name="file", daemon=True).start()
    async with asyncio.timeout(limit_secs):
        return await future


def _run(call: Callable[[], Result], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]) -> None:
    tell: Callable[[], None]
    try:
        tell = partial(future.set_result, call())
    except BaseException as error:  # noqa: BLE001  whoever waits for it hears of it
        tell = partial(future.set_exception, error)
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_tell, future, tell)


def _tell(future: asyncio.Future[Any], tell: Callable[[], None]) -> None:
    if not future.done():
        tell()
