"""The hub's wire: messages of a worker and its supervisor, each behind its length. Bytes in, objects out; no I/O."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fd_router.bus import Ask, Grant

MAX_MESSAGE = 64 << 20
"""Bytes of one message; more is a bug, and ends the connection."""

_LENGTH = 4


class Order(msgspec.Struct, array_like=True, omit_defaults=True):
    """What a worker wants. ``number``: of its answer; 0: it wants none.

    ``kind``: ``send`` (``data``, ``to`` a process, "" all), ``lease`` (``name``, ``secs``), ``reserve`` (``asks``),
    ``settle`` (``asks``, ``count`` requests).
    """

    number: int
    kind: str
    data: bytes = b""
    to: str = ""
    name: str = ""
    secs: float = 0.0
    asks: list[Ask] = []
    count: int = 0


class Reply(msgspec.Struct, array_like=True, omit_defaults=True):
    """What the hub says: the answer to an order, or, with the number 0, another process' message."""

    number: int
    data: bytes = b""
    is_taken: bool = False
    grants: list[Grant] = []


_orders = msgspec.msgpack.Decoder(Order)
_replies = msgspec.msgpack.Decoder(Reply)


def written(message: Order | Reply) -> bytes:
    """Write a message."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH, "big") + body


def read_order(body: bytes) -> Order:
    """Read a worker's message. Raises msgspec.MsgspecError."""
    return _orders.decode(body)


def read_reply(body: bytes) -> Reply:
    """Read the hub's message. Raises msgspec.MsgspecError."""
    return _replies.decode(body)


class Splitter:
    """Cuts what comes into messages' bodies."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the messages that ``data`` completes. Raises ValueError for one that is too long."""
        rest = self._rest
        rest += data
        at = 0
        while len(rest) - at >= _LENGTH:
            length = int.from_bytes(rest[at : at + _LENGTH], "big")
            if length > MAX_MESSAGE:
                raise ValueError(f"a message of {length} bytes")
            if len(rest) - at - _LENGTH < length:
                break
            at += _LENGTH
            yield bytes(rest[at : at + length])
            at += length
        del rest[:at]
