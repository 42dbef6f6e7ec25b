"""Frames: what a process tells the others in one message. Bytes in, objects out; no I/O.

A frame is one byte with the version of its layout, and a msgpack array: the process, its number, the facts by topic,
and the hashes by topic. Facts are a msgpack map, by zlib where that is worth it. Hashes stand beside them, for they are
random to a compressor: trying costs a tenth of a core at a thousand prompts a second and saves nothing.

A process takes what it understands of a frame: a topic that it doesn't know, of a newer router, is passed over, and so
are fields that were added to one it does know. Another layout is refused, which the log tells once.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import msgspec

from fd_router.errors import UNREADABLE

LAYOUT = 1
"""Of the bytes. Changes only when an older router can't read a newer one's frames any more."""

WORTH_COMPRESSING = 512
"""Bytes of facts from which on zlib is tried."""

MAX_FACTS = 64 << 20
"""Bytes that facts may have when they are unpacked: what writes to the bus isn't trusted with this process' memory."""


class LayoutError(Exception):
    """The frame has another layout: its router is newer, or older, than this one understands."""

    def __init__(self, layout: int) -> None:
        super().__init__(f"layout {layout}, not {LAYOUT}")
        self.layout = layout


class FrameError(Exception):
    """The bytes aren't a frame."""


class Frame(msgspec.Struct, frozen=True):
    """What ``process`` tells. ``number`` counts its frames; ``facts`` and ``hashes`` are payloads, by topic.

    ``is_whole``: it tells all that expires, as it does now and then to show that it is alive.
    """

    process: str
    number: int
    facts: Mapping[str, msgspec.Raw] = {}
    hashes: Mapping[str, msgspec.Raw] = {}
    is_whole: bool = False


class _Packed(msgspec.Struct, array_like=True):
    process: str
    number: int
    is_compressed: bool
    facts: bytes
    hashes: dict[str, msgspec.Raw]
    is_whole: bool = False


_packed = msgspec.msgpack.Decoder(_Packed)
_by_topic = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


def encode(frame: Frame) -> bytes:
    """Write a frame."""
    facts = msgspec.msgpack.encode(frame.facts)
    is_compressed = len(facts) >= WORTH_COMPRESSING
    if is_compressed:
        facts = zlib.compress(facts, 1)
    packed = _Packed(frame.process, frame.number, is_compressed, facts, dict(frame.hashes), frame.is_whole)
    return bytes((LAYOUT,)) + msgspec.msgpack.encode(packed)


def decode(data: bytes) -> Frame:
    """Read a frame. Raises LayoutError, and FrameError for what isn't one."""
    if not data:
        raise FrameError("no bytes")
    if data[0] != LAYOUT:
        raise LayoutError(data[0])
    try:
        packed = _packed.decode(memoryview(data)[1:])
        facts = _unpacked(packed.facts) if packed.is_compressed else packed.facts
        return Frame(packed.process, packed.number, _by_topic.decode(facts), packed.hashes, packed.is_whole)
    except (*UNREADABLE, zlib.error) as error:
        raise FrameError(str(error)) from None


def _unpacked(facts: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(facts, MAX_FACTS)
    if not unpacker.eof:
        raise FrameError(f"facts of more than {MAX_FACTS >> 20} MB, or cut off")
    return found
