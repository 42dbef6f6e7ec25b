"""A wall clock that jumps: for a router in a process of its own, without touching the machine's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

FLAG = "clock-jumps"
"""While this file lies in the working directory, it is a day and some later."""

_CODE = f"""
import os, sys, time
now, now_ns, localtime = time.time, time.time_ns, time.localtime
ahead = lambda: 100_000 if os.path.exists({FLAG!r}) else 0
time.time = lambda: now() + ahead()
time.time_ns = lambda: now_ns() + ahead() * 10**9
time.localtime = lambda seconds=None: localtime(time.time() if seconds is None else seconds)
sys.argv = sys.argv[3:]  # behind python -m
from fd_router.cli import main
main()
"""
WRAPPER = (sys.executable, "-c", _CODE)
"""Starts a router with that clock."""


class HasDirectory(Protocol):
    """A router's process."""

    @property
    def directory(self) -> Path:
        """Where it runs."""


def jump(router: HasDirectory) -> Callable[[], None]:
    """The wall clock goes to the next day; undone, it goes back."""
    flag = router.directory / FLAG
    flag.touch()
    return flag.unlink
