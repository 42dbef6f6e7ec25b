"""Runs one mock instance as a process of its own: ``fd-router mock``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import uvloop

from fd_router.devtools.exit_codes import INTERRUPTED
from fd_router.devtools.mock.instance import MockInstance
from fd_router.devtools.mock.options import MockOptions


def run(options: MockOptions) -> int:
    """Serve until SIGTERM (0) or SIGINT (130); return the exit code. Raises OSError when the address can't be had."""
    return uvloop.run(_serve(options))


async def _serve(options: MockOptions) -> int:
    instance = MockInstance(options, log=_write_to_stderr)
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, _stop, stopped, 0)
    loop.add_signal_handler(signal.SIGINT, _stop, stopped, INTERRUPTED)
    await instance.start()
    sys.stdout.write(f"mock {options.role} instance on {instance.url}\n")
    sys.stdout.flush()
    code = await stopped
    await instance.stop()
    return code


def _stop(stopped: asyncio.Future[int], code: int) -> None:
    if not stopped.done():
        stopped.set_result(code)


def _write_to_stderr(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be reading any more
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
