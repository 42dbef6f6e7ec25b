"""Chunks: framed, and taken apart again as far as they are whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.http.chunks import LAST_CHUNK, chunk, whole_chunks


@given(contents=st.lists(st.binary(min_size=1, max_size=300), max_size=5), cut=st.integers(min_value=1, max_value=9))
def test_what_was_framed_is_taken_apart(contents: list[bytes], cut: int) -> None:
    framed = b"".join(map(chunk, contents))
    assert whole_chunks(framed) == (contents, len(framed))
    assert whole_chunks(framed + LAST_CHUNK) == (contents, len(framed))
    if contents:
        assert whole_chunks(framed[:-cut])[0] == contents[: len(whole_chunks(framed[:-cut])[0])] != contents


def test_nothing_is_no_chunk() -> None:
    assert chunk(b"") == b""


@pytest.mark.parametrize(
    "rest", [b"", b"\r\n", b"x\r\n\r\n", b"-1\r\na\r\n", b"2\r\nabc\r\n", b"3\r\nabc", b"00\r\n\r\n"]
)
def test_what_is_no_whole_chunk_is_left(rest: bytes) -> None:
    assert whole_chunks(b"3;a=b\r\nabc\r\n" + rest) == ([b"abc"], 12)
