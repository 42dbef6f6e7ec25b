"""What an engine tells of its KV cache: how much it holds, and how many ranks with a cache of their own there are."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

MAX_RANKS = 1024
"""More than any engine has: a page that tells of more is wrong."""


class CacheFacts(msgspec.Struct, frozen=True):
    """``tokens``: that the cache of one rank holds, ``blocks``: in the engine's own blocks; 0 where it isn't told.

    ``ranks``: data-parallel ones behind the one address, each with a scheduler and a cache of its own.
    """

    tokens: int = 0
    blocks: int = 0
    ranks: int = 1


def count_ranks(told: Iterable[str]) -> int:
    """Return how many ranks there are that may be asked for by number: 0, 1, 2 and so on.

    A server that is one rank of several (each with an address of its own) tells its own number only, and is one.
    """
    numbers = set(told)
    size = len(numbers)
    return size if 1 < size <= MAX_RANKS and numbers == {str(number) for number in range(size)} else 1
