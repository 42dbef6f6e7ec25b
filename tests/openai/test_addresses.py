"""Where bytes lie in memory."""

from __future__ import annotations

import sys

import msgspec
import pytest

from fd_router.openai.addresses import address_of


def test_a_part_lies_where_it_begins_in_the_whole() -> None:
    body = b'{"a": [1, 2, 3], "b": "text"}'
    parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    for name, raw in parts.items():
        view = memoryview(raw)
        assert address_of(view) - address_of(body) == body.index(bytes(view)), name


def test_equal_bytes_elsewhere_have_another_address() -> None:
    body = b"x" * 1000
    assert address_of(body) != address_of(bytes(bytearray(body)))


def test_nothing_is_kept() -> None:
    body = b"y" * 1000
    before = sys.getrefcount(body)
    for _ in range(100):
        address_of(body)
    assert sys.getrefcount(body) == before


def test_what_has_no_bytes_in_a_row_has_no_address() -> None:
    with pytest.raises(TypeError):
        address_of("text")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        address_of(memoryview(b"abcdef")[::2])
