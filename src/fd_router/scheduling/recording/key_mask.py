"""The key mask: makes of block hashes numbers that nobody can check a guess of a prompt against."""

from __future__ import annotations

import numpy as np

from fd_router.scheduling.prefix.block_hashes import GOLDEN, mix

_S16 = np.uint64(16)

SECRET_BYTES = 32
"""Four keys of 64 bits."""


class KeyMask:
    """Names each key of eight bytes by 48 bits, under a secret that is kept nowhere and ends with the process.

    An iterated Even-Mansour cipher (Even and Mansour, 1997) of three rounds around SplitMix64's finalizer, of whose
    result 16 bits are left out. Equal keys have equal names, so prompts that begin alike can be seen to.
    """

    def __init__(self, secret: bytes) -> None:
        """``secret``: ``SECRET_BYTES`` random bytes."""
        self._first, *self._rounds = np.frombuffer(secret, np.uint64, 4)

    def __call__(self, keys: bytes) -> list[int]:
        """Return a number below 2^48 for each key."""
        x = np.frombuffer(keys, np.uint64) ^ self._first
        for secret in self._rounds:
            x += GOLDEN
            mix(x)
            x ^= secret
        names: list[int] = (x >> _S16).tolist()
        return names
