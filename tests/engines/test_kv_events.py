"""KV events decoded: maps and arrays, what isn't known among them, and what is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.engines.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KvEventDecoder

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


def as_map(kind: str, fields: dict[str, Any]) -> Any:
    return {"type": kind, **fields, **(NEWER if kind == "BlockStored" else {})}


def as_array(kind: str, fields: dict[str, Any]) -> Any:
    return [kind, *(fields[name] for name in KINDS[kind].__struct_fields__ if name in fields)]


@pytest.mark.parametrize("written", [as_map, as_array])
@given(events=EVENTS, rank=st.none() | st.integers(0, 7))
def test_both_forms_are_read(written: Any, events: list[tuple[str, dict[str, Any]]], rank: int | None) -> None:
    batch: list[Any] = [1.5, [written(*event) for event in events]] + ([] if rank is None else [rank])
    read = KvEventDecoder().decode(msgspec.msgpack.encode(batch))
    assert (read.time, read.rank, read.unknown, len(read.events)) == (1.5, rank, 0, len(events))
    for event, (kind, fields) in zip(read.events, events, strict=True):
        assert isinstance(event, KINDS[kind])
        assert all(getattr(event, name) == value for name, value in fields.items())


def test_an_event_of_another_kind_is_passed_over() -> None:
    events = [{"type": "BlockMoved"}, {"type": "AllBlocksCleared"}, ["Whatever", 5], {"type": "BlockRemoved"}]
    read = KvEventDecoder().decode(msgspec.msgpack.encode([1.0, events, 0, "more"]))
    assert [type(event) for event in read.events] == [AllBlocksCleared]
    assert read.unknown == 3


@given(st.binary(max_size=64))
def test_what_is_no_batch_is_refused(payload: bytes) -> None:
    try:
        KvEventDecoder().decode(payload)
    except msgspec.DecodeError:
        return


def test_a_decoder_goes_on_when_the_form_changes() -> None:
    decoder = KvEventDecoder()
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
        read = KvEventDecoder().decode(b"\x92" + msgspec.msgpack.encode(1.0) + b"\x92" + raw + good)
    except ValueError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017  (either is right)
    else:
        assert (read.unknown, len(read.events)) == (1, 1)
