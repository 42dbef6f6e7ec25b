"""KV events: what an engine publishes of its prefix cache, decoded. vLLM's format, which SGLang has too.

A batch is a msgpack array ``[time, events, data-parallel rank]``. Its events are maps with a ``type``, or, of older
versions of both engines, arrays that begin with it. An event of another type is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from fd_router.errors import UNREADABLE

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


class _StoredArray(BlockStored, tag="BlockStored", gc=False, frozen=True, array_like=True):
    """The same as an array."""


class _RemovedArray(BlockRemoved, tag="BlockRemoved", gc=False, frozen=True, array_like=True):
    """The same as an array."""


class _ClearedArray(AllBlocksCleared, tag="AllBlocksCleared", gc=False, frozen=True, array_like=True):
    """The same as an array."""


KvEvent: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared


class KvEventBatch(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What happened in one step of an engine."""

    time: float  # of the engine's clock, in seconds
    events: Sequence[KvEvent]
    rank: int | None = None  # data-parallel
    unknown: int = 0  # events that couldn't be read


class _Maps(msgspec.Struct, array_like=True, gc=False):
    time: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    rank: int | None = None


class _Arrays(msgspec.Struct, array_like=True, gc=False):
    time: float
    events: list[_StoredArray | _RemovedArray | _ClearedArray]
    rank: int | None = None


class _Single(msgspec.Struct, array_like=True, gc=False):
    time: float
    events: list[msgspec.Raw]
    rank: int | None = None


_decode_maps = msgspec.msgpack.Decoder(_Maps).decode
_decode_arrays = msgspec.msgpack.Decoder(_Arrays).decode
_decode_single = msgspec.msgpack.Decoder(_Single).decode
_decode_events: Sequence[Callable[[msgspec.Raw], KvEvent]] = (
    msgspec.msgpack.Decoder(BlockStored | BlockRemoved | AllBlocksCleared).decode,
    msgspec.msgpack.Decoder(_StoredArray | _RemovedArray | _ClearedArray).decode,
)


class KvEventDecoder:
    """Decodes the batches of one engine, which all have the same form: the one that did is tried first."""

    __slots__ = ("_are_maps",)

    def __init__(self) -> None:
        self._are_maps = True

    def decode(self, payload: bytes) -> KvEventBatch:
        """Return the batch. Raises ValueError when it is none; single events that are none are counted."""
        try:
            return self._decode(payload)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def _decode(self, payload: bytes) -> KvEventBatch:
        for are_maps in (self._are_maps, not self._are_maps):
            try:
                batch = _decode_maps(payload) if are_maps else _decode_arrays(payload)
            except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
                continue
            self._are_maps = are_maps
            return KvEventBatch(batch.time, batch.events, batch.rank)
        return _decode_one_by_one(payload)


def _decode_one_by_one(payload: bytes) -> KvEventBatch:
    single = _decode_single(payload)
    events = [event for raw in single.events if (event := _decode_event(raw)) is not None]
    return KvEventBatch(single.time, events, single.rank, len(single.events) - len(events))


def _decode_event(raw: msgspec.Raw) -> KvEvent | None:
    for decode in _decode_events:
        try:
            return decode(raw)
        except UNREADABLE:
            continue
    return None
