"""From a prompt to what the engine model needs: its length in tokens and its chained block hashes.

There is no tokenizer here: one token stands for four characters of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import msgspec

CHARACTERS_PER_TOKEN = 4


class Prompt(msgspec.Struct, frozen=True):
    """``tokens`` tokens (at least 1); ``blocks`` are the hashes of its full blocks of ``block_tokens`` tokens.

    Each hash chains the ones before it, so equal hashes mean equal prefixes. Hashes compare within one process only.
    """

    tokens: int
    blocks: Sequence[int]
    block_tokens: int


def prompt_from_text(text: str, block_tokens: int) -> Prompt:
    """Cut ``text`` into tokens of four characters (the last may be shorter)."""
    width = block_tokens * CHARACTERS_PER_TOKEN
    tokens = max(1, -(-len(text) // CHARACTERS_PER_TOKEN))
    chain = 0
    blocks = []
    for start in range(0, len(text) - width + 1, width):
        chain = hash((chain, text[start : start + width]))
        blocks.append(chain)
    return Prompt(tokens, blocks, block_tokens)


def text_ids(text: str) -> list[int]:
    """Return numbers for the tokens of ``text``: equal tokens have equal ones, in every process."""
    width = CHARACTERS_PER_TOKEN
    pieces = (text[start : start + width] for start in range(0, len(text), width))
    return [crc32(piece.encode("utf-8", "surrogatepass")) >> 1 for piece in pieces]


def prompt_from_token_ids(ids: Sequence[int], block_tokens: int) -> Prompt:
    """Take ``ids`` as the prompt's tokens."""
    chain = 0
    blocks = []
    for start in range(0, len(ids) - block_tokens + 1, block_tokens):
        chain = hash((chain, tuple(ids[start : start + block_tokens])))
        blocks.append(chain)
    return Prompt(max(1, len(ids)), blocks, block_tokens)


def prompt_from_hash_ids(hash_ids: Sequence[int], block_tokens: int, tokens: int | None = None) -> Prompt:
    """Take the block hashes of a trace as they are (they must be chained), each for ``block_tokens`` tokens.

    ``tokens`` is the prompt's length when the trace tells it; the last block may be a partial one.
    """
    length = tokens if tokens is not None else len(hash_ids) * block_tokens
    return Prompt(max(1, length), hash_ids, block_tokens)
