"""Requests that end without help: nothing of them may be left to the garbage collector."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any


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
        new = New(*kinds)
        yield
        assert not new.all()


class New:
    """What is there of these kinds since this was made. What was there before is other tests': an error that one of
    them was given as a parameter, and raised, keeps all that was under way as long as pytest has it."""

    def __init__(self, *kinds: type) -> None:
        self._kinds = kinds
        self._before: frozenset[int] = frozenset()
        self._before = frozenset(map(id, self.all()))

    def all(self) -> list[Any]:
        return [one for one in gc.get_objects() if isinstance(one, self._kinds) and id(one) not in self._before]
