"""Block hashes: from a prompt to its chained block hashes: 64 bits that name a whole prefix, the same in every process.

A prompt is cut into blocks of ``block_size`` tokens; a partial last one is left out. Where no tokenizer is
configured, a Unicode code point is a token. The prefix up to block i is named by ``Σ word · multiplier + place[i]``
modulo 2^64, over all words of the blocks up to i: multilinear hashing (Carter and Wegman, 1979) with a fixed odd
multiplier for each place of a word. So one running sum over the whole prompt gives every prefix its name, and
where blocks end it is read off. ``place`` tells prefixes apart whose further words are all zero.

The words of a block are its code points as bytes, eight or fewer at a time, when all are below 256, else as 32-bit
numbers, which have multipliers of their own. Which of the two depends on the block alone, so a prompt keeps its
hashes when something else is appended.

Not for secrets: who knows the multipliers can make collisions, and gains a badly chosen instance.
"""

from __future__ import annotations

from array import array
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fd_router.scheduling.prefix.nodes import KEY_BYTES

Words = npt.NDArray[np.uint64]
_Number = TypeVar("_Number", np.uint32, np.uint64)

MAX_BLOCKS = 1 << 16
"""Blocks of a prompt that are looked at. More than any context holds; bounds the work for a hostile one."""

MAX_WIDE = 1 << 20
"""Code points of a text that are looked at if one of them is above 255, and takes eight times as long as others: more
than half a million tokens of Chinese."""

_BLOCKS_AT_ONCE = 1 << 10
"""Blocks of a text with wide code points that are worked out together: what that takes fits into a CPU's cache."""

_MADE_AT_ONCE = 1 << 16
"""Numbers of a stream that are made together, for the same reason."""

_KEPT_WORDS = 1 << 17
"""Words of a prompt (8 bytes each) for which working memory is kept; a longer one gets memory of its own."""

_NARROW = 256
"""Blocks of code points below this are hashed as bytes."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step of SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014)."""

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = (np.array(shift, np.uint64) for shift in (27, 30, 31, 32))  # not scalars: those take longer
_ONE = np.uint64(1)


class BlockHasher:
    """Names the prefixes of prompts: for n full blocks n keys of eight bytes, in one ``bytes``. Not for threads."""

    __slots__ = ("_dtype", "_narrow", "_places", "_scratch", "_tokens", "_wide", "_word", "block_size")

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._word = next(size for size in (8, 4, 2, 1) if block_size % size == 0)  # bytes
        self._dtype = np.dtype(f"<u{self._word}")
        self._narrow, self._wide, self._places, self._tokens = (_Numbers(stream) for stream in (1, 2, 3, 4))
        self._scratch: Words = np.empty(0, np.uint64)

    def of_text(self, text: str, seed: int = 0) -> bytes:
        """Return the keys of a text's prefixes, each code point a token. With another ``seed`` all are others."""
        size = self.block_size
        count = min(len(text) // size, MAX_BLOCKS)
        if not count:
            return b""
        if len(text) >= (count + 1) * size:  # else what is beyond the last block costs less than cutting it off
            text = text[: count * size]
        try:
            raw = text.encode("latin-1")
        except UnicodeEncodeError:
            return self._of_wide_text(text, min(count, max(1, MAX_WIDE // size)), seed)
        words = np.frombuffer(raw, self._dtype, count * size // self._word)
        return self._keys(self._multiply(words, self._narrow.first(len(words))), count, seed)

    def of_tokens(self, ids: array[int], seed: int = 0) -> bytes:
        """Return the keys of the prefixes of a prompt of tokens (32-bit unsigned numbers). ``seed``: as ``of_text``."""
        count = min(len(ids) // self.block_size, MAX_BLOCKS)
        if not count:
            return b""
        words = np.frombuffer(ids, np.uint32, count * self.block_size)
        return self._keys(self._multiply(words, self._tokens.first(len(words))), count, seed)

    def _of_wide_text(self, text: str, count: int, seed: int) -> bytes:
        """Return the keys of a text some of whose blocks have code points above 255."""
        size = self.block_size
        if count <= _BLOCKS_AT_ONCE:  # nearly always
            return self._keys(self._wide_products(text[: count * size], 0, count), count, seed)
        self._wide.first(count * size)  # all that there are to be, at once
        self._narrow.first(count * size // self._word)
        sums = np.empty(count, np.uint64)
        for start in range(0, count, _BLOCKS_AT_ONCE):
            blocks = sums[start : start + _BLOCKS_AT_ONCE]
            end = start + len(blocks)
            blocks[:] = _sums(self._wide_products(text[start * size : end * size], start, len(blocks)), len(blocks))
        return self._keys(sums, count, seed)

    def _wide_products(self, text: str, before: int, count: int) -> Words:
        """Return the products of the words of ``count`` blocks, or their sums by block; ``before``: blocks."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        first = before * self.block_size
        products = self._multiply(points, self._wide.first(first + len(points))[first:])
        narrow = (_sums((points >= _NARROW).astype(np.uint32), count) == 0).nonzero()[0]
        if not len(narrow):
            return products
        sums = _sums(products, count)
        words = np.frombuffer(points.reshape(count, -1)[narrow].astype(np.uint8).tobytes(), self._dtype)
        multipliers = self._narrow.first((first + len(points)) // self._word)[first // self._word :]
        sums[narrow] = _sums(self._multiply(words, multipliers.reshape(count, -1)[narrow].reshape(-1)), len(narrow))
        return sums

    def _multiply(self, words: npt.NDArray[Any], multipliers: Words) -> Words:
        """Return the product of each word and its multiplier, good until the next call."""
        products = self._memory(len(words))
        if words.itemsize == KEY_BYTES:
            # A product keeps the lowest bit that words differ in, so the upper halves would count for little.
            np.right_shift(words, _S32, out=products)
            np.bitwise_xor(words, products, out=products)
            words = products
        np.multiply(words, multipliers, out=products)
        return products

    def _keys(self, products: Words, count: int, seed: int) -> bytes:
        """Return the names of the prefixes that end with each of ``count`` blocks. ``products`` are used up."""
        keys = _ends(products, count) + self._places.first(count)
        if seed:
            keys += np.uint64(seed)
        return keys.tobytes()

    def _memory(self, size: int) -> Words:
        """Return working memory: fresh one would be a page fault for every 512 words."""
        if size > _KEPT_WORDS:
            return np.empty(size, np.uint64)
        if size > len(self._scratch):
            self._scratch = np.empty(1 << size.bit_length(), np.uint64)
        return self._scratch[:size]


def _ends(numbers: npt.NDArray[_Number], count: int) -> npt.NDArray[_Number]:
    """Return the running sum as it is at the end of each of ``count`` equal parts. ``numbers`` are used up."""
    np.add.accumulate(numbers, out=numbers)  # a wrapping sum; ``cumsum`` costs twice as much for few blocks
    part = len(numbers) // count
    return numbers[part - 1 :: part]


def _sums(numbers: npt.NDArray[_Number], count: int) -> npt.NDArray[_Number]:
    """Return the sum of each of ``count`` equal parts. ``numbers`` are used up."""
    sums = _ends(numbers, count).copy()
    sums[1:] -= sums[:-1].copy()
    return sums


class _Numbers:
    """Fixed odd numbers, as many as are asked for."""

    __slots__ = ("_known", "_stream")

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._known: Words = np.empty(0, np.uint64)

    def first(self, count: int) -> Words:
        """Return the first ``count`` of them."""
        if count > len(self._known):
            self._known = odd_numbers(self._stream, 1 << (count - 1).bit_length())
        return self._known[:count]


def odd_numbers(stream: int, count: int) -> Words:
    """Make the first ``count`` numbers of a stream, by SplitMix64."""
    numbers = np.empty(count, np.uint64)
    for start in range(0, count, _MADE_AT_ONCE):
        made = numbers[start : start + _MADE_AT_ONCE]
        first = ((stream << 56) | 1) + start
        made[:] = np.arange(first, first + len(made), dtype=np.uint64)
        made *= GOLDEN
        mix(made)
        made |= _ONE
    return numbers


def mix(words: Words) -> None:
    """Put each word through SplitMix64's finalizer, in its place."""
    words ^= words >> _S30
    words *= _MIX_1
    words ^= words >> _S27
    words *= _MIX_2
    words ^= words >> _S31
