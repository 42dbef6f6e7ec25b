"""NumPy, which decisions among many instances want: loaded in a thread before the first of them, not by it."""

from __future__ import annotations

import asyncio
from importlib import import_module

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.registry import Registry
from fd_router.scheduling.load_table import VECTORIZE_ABOVE

LOADED_FROM = VECTORIZE_ABOVE // 2
"""Instances that the fleet has by then: loading it in the middle of a decision held the loop for 0.1 s and more."""


def load_vectors_ahead(registry: Registry, loop: asyncio.AbstractEventLoop) -> None:
    """Load it as soon as the fleet grows so large; most never do, and save its memory."""
    members = 0

    def on_change(change: Change) -> None:
        nonlocal members
        if change.kind is ChangeKind.ADDED:
            members += 1
            if members == LOADED_FROM:
                loop.run_in_executor(None, import_module, "numpy")
        elif change.kind is ChangeKind.REMOVED:
            members -= 1

    registry.on_change(on_change)
