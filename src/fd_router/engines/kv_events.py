"""KV events: what an engine publishes of its prefix cache. vLLM's format, which SGLang has too.

An event is a msgpack map with a ``type``, or, of older versions of both engines, an array that begins with it. They
come in batches; see ``kv_event_batches``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

BlockHash = int | bytes
"""An engine's name of a block and all before it: a number, or the whole digest. It means nothing elsewhere."""

DEVICE = "GPU"
"""The medium of blocks that cost nothing to use; where none is told it is this."""

USABLE_KINDS = frozenset({"", "full_attention", "mla_attention", "sink_full_attention"})
"""Kinds of KV caches whose blocks tell how long a hit is. Others keep what a window or a state needs, and no more."""


class BlockStored(msgspec.Struct, tag="BlockStored", gc=False, frozen=True):
    """Blocks were stored, one behind the other. ``extra_keys``: what else than tokens tells a block apart."""

    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None
    token_ids: list[int]
    block_size: int  # tokens
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: list[Any] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    cache_salt: str | None = None  # SGLang; vLLM has it among the extra keys


class BlockRemoved(msgspec.Struct, tag="BlockRemoved", gc=False, frozen=True):
    """Blocks were evicted."""

    block_hashes: list[BlockHash]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", gc=False, frozen=True):
    """Nothing is cached any more."""


class StoredArray(BlockStored, tag="BlockStored", gc=False, frozen=True, array_like=True):
    """The same as an array."""


class RemovedArray(BlockRemoved, tag="BlockRemoved", gc=False, frozen=True, array_like=True):
    """The same as an array."""


class ClearedArray(AllBlocksCleared, tag="AllBlocksCleared", gc=False, frozen=True, array_like=True):
    """The same as an array."""


KvEvent: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared
