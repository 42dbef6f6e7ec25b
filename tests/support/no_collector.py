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


@contextlib.contextmanager
def leaves_nothing(*kinds: type) -> Iterator[None]:
    """Fail where something of these kinds, which wasn't there before, is there at the end, collector off."""
    with no_collector():
        before = {id(one) for one in gc.get_objects() if isinstance(one, kinds)}
        yield
        assert not [one for one in gc.get_objects() if isinstance(one, kinds) and id(one) not in before]
