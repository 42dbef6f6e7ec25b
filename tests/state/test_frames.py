from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.state.frames import LAYOUT, Frame, FrameError, LayoutError, decode, encode

payloads = st.recursive(st.none() | st.integers(-(2**62), 2**62) | st.text() | st.binary(), st.lists, max_leaves=20)
by_topic = st.dictionaries(st.text(max_size=10), payloads, max_size=5)


def raw(values):
    return {name: msgspec.Raw(msgspec.msgpack.encode(value)) for name, value in values.items()}


def plain(payloads):
    return {name: msgspec.msgpack.decode(payload) for name, payload in payloads.items()}


@given(st.text(max_size=40), st.integers(0, 2**60), by_topic, by_topic, st.integers(0, 2000))
def test_what_is_written_is_read(process, number, facts, hashes, length):
    facts = {**facts, "long": "x" * length}
    found = decode(encode(Frame(process, number, raw(facts), raw(hashes))))
    assert (found.process, found.number, plain(found.facts), plain(found.hashes)) == (process, number, facts, hashes)


@given(st.binary(max_size=200))
def test_anything_else_is_refused_and_nothing_else_is_raised(data):
    try:
        decode(data)
    except (FrameError, LayoutError):
        pass


@given(st.data())
def test_neither_does_a_frame_with_a_damaged_byte(data):
    frame = bytearray(encode(Frame("p", 1, raw({"loads": ["x" * 600, {"a": 1}]}), raw({"prefixes": b"12345678"}))))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(frame))
    except (FrameError, LayoutError):
        pass


def test_another_layout_says_which():
    with pytest.raises(LayoutError, match="layout 9, not 1"):
        decode(b"\x09" + encode(Frame("p", 1))[1:])


def test_facts_that_unpack_to_more_than_memory_are_refused(monkeypatch):
    monkeypatch.setattr("fd_router.state.frames.MAX_FACTS", 1000)
    packed = ["p", 1, True, zlib.compress(msgspec.msgpack.encode({"x": "0" * 5000})), {}]
    with pytest.raises(FrameError, match="or cut off"):
        decode(bytes((LAYOUT,)) + msgspec.msgpack.encode(packed))


def test_fields_and_topics_of_a_newer_router_are_passed_over():
    facts = msgspec.msgpack.encode({"loads": [True, {}, "new"], "weather": 1})
    frame = decode(bytes((LAYOUT,)) + msgspec.msgpack.encode(["p", 1, False, facts, {}, True, "another field"]))
    assert set(frame.facts) == {"loads", "weather"}
    assert frame.is_whole


def test_a_frame_of_an_older_router_is_not_known_to_be_whole():
    facts = msgspec.msgpack.encode({"loads": [True, {}]})
    assert not decode(bytes((LAYOUT,)) + msgspec.msgpack.encode(["p", 1, False, facts, {}])).is_whole
