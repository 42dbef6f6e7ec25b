"""Batches of KV events, decoded: what one step of an engine did to its prefix cache, at once or in pieces.

A batch is a msgpack array ``[time, events, data-parallel rank]``. The events of a large one are decoded when their turn
comes, so that nobody has to take in megabytes at a time; a single event that is large is cut into several that do the
same one after the other. An event of another type than those that are known is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from fd_router.engines.kv_events import (
    AllBlocksCleared,
    BlockHash,
    BlockRemoved,
    BlockStored,
    ClearedArray,
    KvEvent,
    RemovedArray,
    StoredArray,
)
from fd_router.errors import UNREADABLE

MAX_EVENTS: Final = 250_000
"""In one batch. What has more is none: 4 MB have room for fewer."""

MAX_BLOCKS: Final = 500_000
MAX_TOKENS: Final = 800_000
"""In one event, which is decoded at once: some 40 ms. An engine tells of a step, of some ten thousand tokens."""

EVENT_BYTES: Final = 64
"""What an event costs besides its content: it is weighed as if it had so many bytes more."""

HASH_BYTES: Final = 9
TOKEN_BYTES: Final = 5
"""What a block's name and a token have in an event, about."""


class Piece(NamedTuple):
    """Events that are taken in together. ``goes_on``: some of their batch that were stored came in a piece before."""

    events: Sequence[KvEvent]
    unknown: int  # others, which couldn't be read
    goes_on: bool


class EventPieces:
    """The events of a batch, decoded a piece at a time."""

    __slots__ = ("_are_maps", "_has_stored", "_left", "_size")

    def __init__(self, raws: Sequence[msgspec.Raw], size: int, *, are_maps: bool) -> None:
        """``size``: about the bytes of a piece; ``are_maps``: the form that is tried first."""
        self._left: list[msgspec.Raw | KvEvent] = [*reversed(raws)]  # the next one last: what was taken is freed
        self._size = size
        self._are_maps = are_maps
        self._has_stored = False

    @property
    def are_taken(self) -> bool:
        """Whether nothing is left."""
        return not self._left

    def take(self) -> Piece:
        """Return the next piece. That is an empty one where the next event is large: to decode it takes its time."""
        left, size = self._left, self._size
        events: list[KvEvent] = []
        unknown, room = 0, size
        while left and room > 0:
            each = left.pop()
            if not isinstance(each, msgspec.Raw):
                events.append(each)
                room -= size
                continue
            event = self._decoded(each)
            room -= len(each) + EVENT_BYTES
            if event is None:
                unknown += 1
            elif len(each) > size:
                left += reversed(_cut(event, size))
            else:
                events.append(event)
        goes_on = self._has_stored
        self._has_stored = goes_on or any(isinstance(event, BlockStored) for event in events)
        return Piece(events, unknown, goes_on)

    def _decoded(self, raw: msgspec.Raw) -> KvEvent | None:
        decoders = _decode_large if len(raw) > self._size else _decode_event
        for are_maps in (self._are_maps, not self._are_maps):
            try:
                event = decoders[are_maps](raw)
            except UNREADABLE:
                continue
            self._are_maps = are_maps
            return event
        return None

    def __repr__(self) -> str:
        return f"<EventPieces {len(self._left)} left>"


class KvEventBatch(msgspec.Struct, gc=False, frozen=True):
    """What happened in one step of an engine: ``events``, and after them what is in ``pieces``."""

    time: float  # of the engine's clock, in seconds
    rank: int | None  # data-parallel
    events: Sequence[KvEvent] = ()
    unknown: int = 0  # others, which couldn't be read
    pieces: EventPieces | None = None


class KvEventDecoder:
    """Decodes the batches of one engine, which all have the same form: the one that did is tried first."""

    __slots__ = ("_are_maps", "_at_once")

    def __init__(self, at_once: int) -> None:
        """``at_once``: bytes of a batch that is decoded at once, and of a piece of a larger one."""
        self._at_once = at_once
        self._are_maps = True

    def decode(self, payload: bytes) -> KvEventBatch:
        """Return the batch. Raises ValueError when it is none."""
        try:
            return self._decode(payload)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def _decode(self, payload: bytes) -> KvEventBatch:
        if len(payload) <= self._at_once:
            for are_maps in (self._are_maps, not self._are_maps):
                try:
                    batch = _decode_maps(payload) if are_maps else _decode_arrays(payload)
                except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
                    continue
                self._are_maps = are_maps
                return KvEventBatch(batch.time, batch.rank, batch.events)
        parts = _decode_parts(payload)
        pieces = EventPieces(parts.events, self._at_once, are_maps=self._are_maps)
        if len(payload) > self._at_once:
            return KvEventBatch(parts.time, parts.rank, pieces=pieces)
        piece = pieces.take()
        return KvEventBatch(parts.time, parts.rank, piece.events, piece.unknown, None if pieces.are_taken else pieces)


class _Maps(msgspec.Struct, array_like=True, gc=False):
    time: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    rank: int | None = None


class _Arrays(msgspec.Struct, array_like=True, gc=False):
    time: float
    events: list[StoredArray | RemovedArray | ClearedArray]
    rank: int | None = None


class _Parts(msgspec.Struct, array_like=True, gc=False):
    time: float
    events: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_EVENTS)]
    rank: int | None = None


_Hashes = Annotated[list[BlockHash], msgspec.Meta(max_length=MAX_BLOCKS)]
_Tokens = Annotated[list[int], msgspec.Meta(max_length=MAX_TOKENS)]
_Keys = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_BLOCKS)]


class _LargeStored(BlockStored, tag="BlockStored", gc=False, frozen=True):
    """The same, but that extra keys, whatever they may be, aren't decoded."""

    block_hashes: _Hashes
    token_ids: _Tokens
    extra_keys: _Keys | None = None


class _LargeStoredArray(StoredArray, tag="BlockStored", gc=False, frozen=True, array_like=True):
    """The same as an array."""

    block_hashes: _Hashes
    token_ids: _Tokens
    extra_keys: _Keys | None = None


_decode_maps = msgspec.msgpack.Decoder(_Maps).decode
_decode_arrays = msgspec.msgpack.Decoder(_Arrays).decode
_decode_parts = msgspec.msgpack.Decoder(_Parts).decode

_Decoders = tuple[Callable[[msgspec.Raw], KvEvent], Callable[[msgspec.Raw], KvEvent]]
"""Of an event that is an array, and of one that is a map."""

_decode_event: Final[_Decoders] = (
    msgspec.msgpack.Decoder(StoredArray | RemovedArray | ClearedArray).decode,
    msgspec.msgpack.Decoder(BlockStored | BlockRemoved | AllBlocksCleared).decode,
)
_decode_large: Final[_Decoders] = (
    msgspec.msgpack.Decoder(_LargeStoredArray | RemovedArray | ClearedArray).decode,
    msgspec.msgpack.Decoder(_LargeStored | BlockRemoved | AllBlocksCleared).decode,
)


def _cut(event: KvEvent, size: int) -> list[KvEvent]:
    """Return events of about ``size`` bytes that do the same one after the other."""
    if isinstance(event, AllBlocksCleared):
        return [event]
    if isinstance(event, BlockRemoved):
        blocks, many = event.block_hashes, size // HASH_BYTES + 1
        return [replace(event, block_hashes=blocks[at : at + many]) for at in range(0, len(blocks), many)]
    tokens = event.block_size * len(event.block_hashes)
    if not event.block_hashes or event.block_size < 1 or len(event.token_ids) != tokens:
        return [replace(event, extra_keys=None)]  # nobody can tell which tokens a block has
    return [*_cut_stored(event, size)]


def _cut_stored(event: BlockStored, size: int) -> Iterator[BlockStored]:
    """Cut between blocks: each part follows on the last block of the one before."""
    blocks, tokens, of_block = event.block_hashes, event.token_ids, event.block_size
    keys, parent = _telling_keys(event), event.parent_block_hash
    has = HASH_BYTES + TOKEN_BYTES * of_block + sum(map(len, event.extra_keys or ())) // len(blocks)
    many = size // has + 1
    for at in range(0, len(blocks), many):
        end = at + many
        yield replace(
            event,
            block_hashes=blocks[at:end],
            parent_block_hash=parent,
            token_ids=tokens[at * of_block : end * of_block],
            extra_keys=None if keys is None else keys[at:end],
        )
        parent = blocks[min(end, len(blocks)) - 1]


def _telling_keys(event: BlockStored) -> list[msgspec.Raw | None] | None:
    """Return its extra keys as they were written, but None for those that tell no more than its other fields."""
    if event.extra_keys is None:
        return None
    plain = {msgspec.msgpack.encode(each) for each in (None, [], [event.lora_name])}
    return [None if bytes(each) in plain else each for each in event.extra_keys]
