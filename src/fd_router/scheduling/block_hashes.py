"""From a prompt to its chained block hashes: 64 bits that name a whole prefix, the same in every process.

A prompt is cut into blocks of ``block_size`` tokens; a partial last one is left out. Where no tokenizer is
configured, a Unicode code point is a token. All steps work on whole arrays:

* A block's own hash is ``avalanche(Σ word · multiplier)`` modulo 2^64 (multilinear hashing with fixed odd
  multipliers). Its words are its code points as bytes when all are below 256, else as 32-bit numbers. Which
  of the two depends on the block alone, so a prompt keeps its hashes when something else is appended.
* The prefix up to block i is named by ``Σ hash[j] · odd[j]`` for j ≤ i: a running sum instead of a chain of
  calls. The multiplier makes a block count differently at each place.

Not for secrets: who knows the multipliers can make collisions, and gains a badly chosen instance.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from fd_router.scheduling.prefix_nodes import KEY_BYTES

Words = npt.NDArray[np.uint64]

MAX_BLOCKS = 1 << 18
"""Blocks of a prompt that are looked at. More than any context holds; bounds the work for a hostile one."""

_GOLDEN = 0x9E3779B97F4A7C15  # Steele et al., "Fast splittable pseudorandom number generators", 2014: SplitMix64
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = (np.uint64(shift) for shift in (27, 30, 31, 32))
_ONE = np.uint64(1)
_NARROW_SALT, _WIDE_SALT, _TOKEN_SALT = (
    np.uint64(salt) for salt in (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822)
)


class BlockHasher:
    """Names the prefixes of prompts: for n full blocks n keys of eight bytes, in one ``bytes``."""

    __slots__ = ("_narrow", "_narrow_type", "_places", "_wide", "block_size")

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        word = next(size for size in (8, 4, 2, 1) if block_size % size == 0)
        self._narrow_type = f"<u{word}"
        self._narrow = _odd_numbers(1, block_size // word)
        self._wide = _odd_numbers(2, block_size)
        self._places = _odd_numbers(3, 1024)

    def of_text(self, text: str) -> bytes:
        """Return the keys of a text's prefixes, each code point a token."""
        size = self.block_size
        text = text[: min(len(text) // size, MAX_BLOCKS) * size]
        if not text:
            return b""
        try:
            return self._chain(self._hash_narrow(text.encode("latin-1")))
        except UnicodeEncodeError:
            points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").reshape(-1, size)
            return self._chain(self._hash_points(points))

    def of_tokens(self, ids: array[int]) -> bytes:
        """Return the keys of the prefixes of a prompt of tokens (32-bit unsigned numbers)."""
        numbers = np.frombuffer(ids, np.uint32)
        count = min(len(numbers) // self.block_size, MAX_BLOCKS)
        if not count:
            return b""
        blocks = numbers[: count * self.block_size].reshape(count, -1)
        return self._chain(_avalanche(blocks.astype(np.uint64) @ self._wide + _TOKEN_SALT))

    def _hash_narrow(self, raw: bytes) -> Words:
        words: npt.NDArray[Any] = np.frombuffer(raw, self._narrow_type).reshape(-1, len(self._narrow))
        # An odd multiplier leaves a difference in the top bit where it is, and two such would cancel out.
        words = words ^ (words >> _S32) if words.itemsize == KEY_BYTES else words.astype(np.uint64)
        return _avalanche(words @ self._narrow + _NARROW_SALT)

    def _hash_points(self, points: npt.NDArray[np.uint32]) -> Words:
        hashes = _avalanche(points.astype(np.uint64) @ self._wide + _WIDE_SALT)
        narrow = points.max(axis=1) < 256
        if narrow.any():
            hashes[narrow] = self._hash_narrow(points[narrow].astype(np.uint8).tobytes())
        return hashes

    def _chain(self, hashes: Words) -> bytes:
        count = len(hashes)
        if count > len(self._places):
            self._places = _odd_numbers(3, 1 << count.bit_length())
        hashes *= self._places[:count]
        np.add.accumulate(hashes, out=hashes)  # a wrapping sum; ``cumsum`` costs twice as much for few blocks
        return hashes.tobytes()


def _avalanche(x: Words) -> Words:
    """Let every bit change every other one, in place: SplitMix64's finalizer."""
    x ^= x >> _S30
    x *= _MIX_1
    x ^= x >> _S27
    x *= _MIX_2
    x ^= x >> _S31
    return x


def _odd_numbers(stream: int, count: int) -> Words:
    """Make fixed odd multipliers; a longer table begins as the shorter one does."""
    start = (stream << 56) | 1
    numbers = np.arange(start, start + count, dtype=np.uint64) * np.uint64(_GOLDEN)
    return _avalanche(numbers) | _ONE
