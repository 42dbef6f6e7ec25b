"""Bugs: what a callback of the loop raised goes into the log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fd_router.telemetry.contracts import Log


def log_bugs(loop: asyncio.AbstractEventLoop, log: Log) -> None:
    """Have the log tell of a callback that raises. The connection concerned is closed by the loop."""
    loop.set_exception_handler(lambda _, context: log.error(f"A bug in the router: {_what(context)}"))


def tell_if_broken(task: asyncio.Task[None]) -> None:
    """Have the log tell of a task that was to run as long as the router does, and raised."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": f"{task.get_name()} ended", "exception": error})


def _what(context: dict[str, Any]) -> str:
    error: BaseException | None = context.get("exception")
    if error is None:
        return str(context.get("message", "unknown"))
    return f"{type(error).__name__}: {error}{_place(error)}"


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
