"""Calls in threads of their own: what they return and raise, and that one that hangs keeps nothing from ending."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from functools import partial

import pytest

from fd_router.threads import in_thread
from tests.support.mock_process import SOURCES

HANGS = """
import asyncio, threading
from fd_router.threads import in_thread
async def main():
    asyncio.ensure_future(in_thread(threading.Event().wait))
    await asyncio.sleep(0)
    return "ended"
print(asyncio.run(main()))
"""


async def test_what_it_returns_and_raises() -> None:
    assert await in_thread(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await in_thread(partial(divmod, 1, 0))


async def test_one_that_takes_too_long_goes_on_and_nobody_hears_of_it() -> None:
    go_on = threading.Event()
    with pytest.raises(TimeoutError):
        await in_thread(go_on.wait, limit_secs=0.01)
    waiting = asyncio.create_task(in_thread(go_on.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go_on.set()
    assert await in_thread(go_on.is_set)


def test_one_that_hangs_keeps_no_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
