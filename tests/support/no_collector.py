"""Requests that end without help: nothing of them may be left to the garbage collector."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """Keep the collector off, behind one last collection of what others left."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
