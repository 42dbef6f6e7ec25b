"""Rendezvous hashing: which process of a set does what only one has to do, without asking anybody."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def chosen(name: str, processes: Iterable[str]) -> str:
    """Return the process that ``name`` falls to (Thaler and Ravishankar, 1998). ``processes``: at least one.

    All who know the same processes come to the same answer, and when one of them goes only what was its own moves.
    """
    return max(processes, key=lambda process: (_weight(name, process), process))


def _weight(name: str, process: str) -> bytes:
    return blake2b(f"{name}\0{process}".encode(), digest_size=8).digest()
