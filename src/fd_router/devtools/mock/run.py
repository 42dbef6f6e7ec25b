"""Runs one mock instance as a process of its own: ``fd-router mock``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import uvloop

from fd_router.devtools.mock.instance import MockInstance
from fd_router.devtools.mock.options import MockOptions


def run(options: MockOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises OSError when the address can't be had."""
    return uvloop.run(_serve(options))


async def _serve(options: MockOptions) -> int:
    instance = MockInstance(options, log=_say_aside)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await instance.start()
    sys.stdout.write(f"mock {options.role} instance on {instance.url}\n")
    sys.stdout.flush()
    await stopped.wait()
    await instance.stop()
    return 0


def _say_aside(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be reading any more
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
