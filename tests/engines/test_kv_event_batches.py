"""Batches of KV events decoded: maps and arrays, what isn't known among them, what is none, and large ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.engines.kv_event_batches import KvEventBatch, KvEventDecoder
from fd_router.engines.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent

HASHES = st.one_of(st.integers(-(2**63), 2**64 - 1), st.binary(min_size=32, max_size=32))
STORED = st.fixed_dictionaries({
    "block_hashes": st.lists(HASHES, max_size=4),
    "parent_block_hash": st.none() | HASHES,
    "token_ids": st.lists(st.integers(0, 2**32 - 1), max_size=8),
    "block_size": st.integers(1, 512),
    "lora_id": st.none() | st.integers(0, 9),
    "medium": st.none() | st.sampled_from(["GPU", "CPU", "CPU_PINNED", "DISK", "EXTERNAL"]),
})  # fmt: skip
REMOVED = st.fixed_dictionaries({"block_hashes": st.lists(HASHES, max_size=4), "medium": st.none() | st.just("GPU")})
EVENTS = st.lists(
    st.one_of(
        STORED.map(lambda fields: ("BlockStored", fields)),
        REMOVED.map(lambda fields: ("BlockRemoved", fields)),
        st.just(("AllBlocksCleared", {})),
    ),
    max_size=6,
)
KINDS = {"BlockStored": BlockStored, "BlockRemoved": BlockRemoved, "AllBlocksCleared": AllBlocksCleared}
NEWER = {"group_idx": 0, "kv_cache_spec_kind": "full_attention", "session_id": "s", "some_field_of_tomorrow": [1, {}]}
"""Fields that came later, and one that is still to come."""


AT_ONCE = 100_000


def decode(payload: bytes, at_once: int = AT_ONCE) -> KvEventBatch:
    return KvEventDecoder(at_once).decode(payload)


def told(batch: KvEventBatch) -> tuple[list[KvEvent], int]:
    """Return all events of a batch, and how many couldn't be read."""
    events, unknown = [*batch.events], batch.unknown
    while batch.pieces is not None and not batch.pieces.are_taken:
        piece = batch.pieces.take()
        assert piece.goes_on == any(isinstance(event, BlockStored) for event in events)
        events += piece.events
        unknown += piece.unknown
    return events, unknown


def as_map(kind: str, fields: dict[str, Any]) -> Any:
    return {"type": kind, **fields, **(NEWER if kind == "BlockStored" else {})}


def as_array(kind: str, fields: dict[str, Any]) -> Any:
    return [kind, *(fields[name] for name in KINDS[kind].__struct_fields__ if name in fields)]


@pytest.mark.parametrize("written", [as_map, as_array])
@given(events=EVENTS, rank=st.none() | st.integers(0, 7))
def test_both_forms_are_read(written: Any, events: list[tuple[str, dict[str, Any]]], rank: int | None) -> None:
    batch: list[Any] = [1.5, [written(*event) for event in events]] + ([] if rank is None else [rank])
    read = decode(msgspec.msgpack.encode(batch))
    assert (read.time, read.rank, read.pieces) == (1.5, rank, None)
    for event, (kind, fields) in zip(read.events, events, strict=True):
        assert isinstance(event, KINDS[kind])
        assert all(getattr(event, name) == value for name, value in fields.items())


def test_an_event_of_another_kind_is_passed_over() -> None:
    events = [{"type": "BlockMoved"}, {"type": "AllBlocksCleared"}, ["Whatever", 5], {"type": "BlockRemoved"}]
    read, unknown = told(decode(msgspec.msgpack.encode([1.0, events, 0, "more"])))
    assert [type(event) for event in read] == [AllBlocksCleared]
    assert unknown == 3


@given(st.binary(max_size=64))
def test_what_is_no_batch_is_refused(payload: bytes) -> None:
    try:
        decode(payload)
    except msgspec.DecodeError:
        return


def test_a_decoder_goes_on_when_the_form_changes() -> None:
    decoder = KvEventDecoder(AT_ONCE)
    for written in (as_map, as_array, as_array, as_map):
        events = [written("BlockRemoved", {"block_hashes": [5], "medium": None})]
        (event,) = decoder.decode(msgspec.msgpack.encode([1.0, events])).events
        assert isinstance(event, BlockRemoved)


def deep(levels: int = 5000) -> bytes:
    return b"\x91" * levels + b"\xc0"


def event_with(field: str, raw: bytes) -> bytes:
    """An event of one field more, written as ``raw``."""
    fields = {"block_hashes": [1], "parent_block_hash": None, "token_ids": [1], "block_size": 1, field: "?"}
    return msgspec.msgpack.encode({"type": "BlockStored", **fields}).replace(b"\xa1?", raw)


@pytest.mark.parametrize(
    "raw",
    [deep(), event_with("medium", b"\xa2\xff\xff"), event_with("extra_keys", deep())],
    ids=("event", "text", "keys"),
)
def test_what_cannot_be_read_costs_no_more_than_its_batch(raw: bytes) -> None:
    """Whatever else a decoder raises than that it isn't one (text that is none, nesting) ends no stream."""
    good = msgspec.msgpack.encode({"type": "AllBlocksCleared"})
    try:
        read, unknown = told(decode(b"\x92" + msgspec.msgpack.encode(1.0) + b"\x92" + raw + good))
    except ValueError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017  (either is right)
    else:
        assert (unknown, len(read)) == (1, 1)


@pytest.mark.parametrize("written", [as_map, as_array])
@given(events=EVENTS, at_once=st.integers(1, 400))
def test_a_large_batch_comes_in_pieces(written: Any, events: list[tuple[str, dict[str, Any]]], at_once: int) -> None:
    payload = msgspec.msgpack.encode([1.5, [written(*event) for event in events], 3])
    batch = decode(payload, at_once)
    assert (batch.time, batch.rank, batch.pieces is None) == (1.5, 3, len(payload) <= at_once)
    read, unknown = told(batch)
    assert unknown == 0
    assert [*joined(read)] == [*joined(told(decode(payload))[0])]


def joined(events: list[KvEvent]) -> Iterator[tuple[Any, ...]]:
    """Give what becomes of each block, with what it follows on: that doesn't depend on how events were cut."""
    for event in events:
        if isinstance(event, AllBlocksCleared):
            yield ("cleared",)
        elif isinstance(event, BlockRemoved):
            yield from (("removed", event.medium, block) for block in event.block_hashes)
        elif event.block_hashes and len(event.token_ids) == event.block_size * len(event.block_hashes):
            parents, size = (event.parent_block_hash, *event.block_hashes), event.block_size
            for at, (parent, block) in enumerate(itertools.pairwise(parents)):
                yield "stored", event.medium, parent, block, event.token_ids[at * size : (at + 1) * size]
        else:
            yield "stored", event.medium, event.block_hashes, event.token_ids


@pytest.mark.parametrize("written", [as_map, as_array])
def test_a_large_event_is_cut_between_blocks(written: Any) -> None:
    keys = [None, ["image", 3], [], ["adapter"]] * 25
    fields = {
        "block_hashes": list(range(1000, 1100)), "parent_block_hash": 7, "token_ids": list(range(400)), "block_size": 4,
        "lora_id": 1, "medium": "GPU", "lora_name": "adapter", "extra_keys": keys,
    }  # fmt: skip
    batch = decode(msgspec.msgpack.encode([1.0, [written("BlockStored", fields)]]), at_once=300)
    events, unknown = told(batch)
    assert unknown == 0
    assert len(events) == 10
    assert [*joined(events)] == [*joined([BlockStored(**fields)])]
    stored = [event for event in events if isinstance(event, BlockStored)]
    assert all(event.lora_name == "adapter" and len(event.token_ids) < 100 for event in stored)
    salted = [msgspec.msgpack.encode(key) if key else None for event in stored for key in event.extra_keys or ()]
    assert salted == [msgspec.msgpack.encode(key) if key == ["image", 3] else None for key in keys]


@pytest.mark.parametrize(
    "event",
    [
        {"block_hashes": [1] * 100, "parent_block_hash": None, "token_ids": [1] * 99, "block_size": 1},
        {"block_hashes": [], "parent_block_hash": None, "token_ids": [1] * 200, "block_size": 1},
        {"block_hashes": [1] * 100, "parent_block_hash": None, "token_ids": [], "block_size": 0},
        {"block_hashes": [], "parent_block_hash": None, "token_ids": [], "block_size": 1, "medium": "m" * 200},
    ],
)
def test_a_large_event_whose_blocks_cannot_be_told_apart_stays_whole(event: dict[str, Any]) -> None:
    (read,), unknown = told(decode(msgspec.msgpack.encode([1.0, [as_map("BlockStored", event)]]), at_once=100))
    assert unknown == 0
    assert isinstance(read, BlockStored)
    assert (read.block_hashes, read.token_ids) == (event["block_hashes"], event["token_ids"])


def test_a_batch_of_more_events_than_a_message_has_room_for_is_none() -> None:
    head = b"\x92" + msgspec.msgpack.encode(1.0) + b"\xdd"
    with pytest.raises(msgspec.DecodeError, match="length"):
        decode(head + (250_001).to_bytes(4, "big") + b"\xc0" * 250_001)


def test_many_that_are_none_come_in_pieces_too() -> None:
    batch = decode(msgspec.msgpack.encode([1.0, [None] * 100]), at_once=1000)
    assert (batch.unknown, repr(batch.pieces)) == (16, "<EventPieces 84 left>")
    assert told(batch) == ([], 100)
