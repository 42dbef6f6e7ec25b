"""Chained hashes by which prompts and an engine's blocks meet: 64 bits that name a prefix, whoever cut it.

A block is named by ``h``, a multilinear hash of its tokens that is mixed, and a prefix that ends with it by
``c = c of the prefix before × Q + h`` modulo 2^64. So an engine's event goes on from its parent's name alone, however
deep that is, while all prefixes of a prompt are named at once: ``c[i] = Q^i × (seed + Σ h[k] × Q^-k)``.

``block_hashes`` names prefixes for less, but only from their beginning. Neither is for secrets.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from fd_router.scheduling.prefix.block_hashes import MAX_BLOCKS, odd_numbers

Words = npt.NDArray[np.uint64]

FACTOR: Final = 0xD6E8FEB86659FD93
"""Q: odd, so that it has an inverse (Steele and Vigna's mixers, of which this is one's constant, need no more)."""

MASK: Final = (1 << 64) - 1

_STREAM: Final = 5  # of the fixed numbers; 1 to 4 are those of ``block_hashes``
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_S29, _S32 = np.uint64(29), np.uint64(32)


class ChainHasher:
    """Names blocks of ``block_size`` tokens, and the prefixes that they make."""

    __slots__ = ("_inverses", "_multipliers", "_powers", "_start", "block_size")

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._multipliers = odd_numbers(_STREAM, block_size)
        self._start = self._multipliers.sum(dtype=np.uint64) ^ np.uint64(block_size)  # zeros are tokens as any other
        self._powers: Words = np.empty(0, np.uint64)
        self._inverses: Words = np.empty(0, np.uint64)

    def of_blocks(self, ids: array[int]) -> list[int]:
        """Return ``h`` of each block in ``ids``, whose length is a multiple of the block size."""
        hashes: list[int] = self._hash(ids, len(ids) // self.block_size).tolist()
        return hashes

    def of_prompt(self, ids: array[int], seed: int = 0) -> list[int]:
        """Return ``c`` of each prefix of whole blocks. With another ``seed`` all are others."""
        count = min(len(ids) // self.block_size, MAX_BLOCKS)
        if not count:
            return []
        if count > len(self._powers):
            self._powers, self._inverses = (_powers(base, 1 << count.bit_length()) for base in (FACTOR, _INVERSE))
        sums = self._hash(ids, count)
        sums *= self._inverses[:count]
        np.add.accumulate(sums, out=sums)
        if seed:
            sums += np.uint64(seed & MASK)
        sums *= self._powers[:count]
        names: list[int] = sums.tolist()
        return names

    def _hash(self, ids: array[int], count: int) -> Words:
        size = self.block_size
        words = np.frombuffer(ids, np.uint32, count * size).reshape(count, size)
        hashes: Words = words @ self._multipliers  # a third of what products cost that are summed up
        hashes += self._start
        hashes ^= hashes >> _S32
        hashes *= _MIX
        hashes ^= hashes >> _S29
        return hashes


def salt_of(what: bytes) -> int:
    """Return 64 bits that stand for ``what``."""
    return int.from_bytes(blake2b(what, digest_size=8).digest())


def _powers(base: int, count: int) -> Words:
    """Return the first ``count`` powers of ``base``, from the first one on."""
    powers = np.full(count, base, np.uint64)
    np.multiply.accumulate(powers, out=powers)
    return powers


_INVERSE: Final = pow(FACTOR, -1, 1 << 64)
