"""The filter of token ids: what it takes out, and what it leaves as it is."""

from __future__ import annotations

import pytest

from fd_router.routing.continuation.id_filter import without_ids


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("member", "left"),
    [
        (b'{"a":1,"token_ids":[1,22]}', b'{"a":1}'),
        (b'{"token_ids": [ 1, 2 ], "a":1}', b'{"a":1}'),
        (b'{"prompt_token_ids":null}', b"{}"),
        (b'{"a":1,"completion_token_ids":[],"b":2}', b'{"a":1,"b":2}'),
        (b'{"a":1,"token_ids":[1],"prompt_token_ids":[2,3]}', b'{"a":1}'),
        (b'{"a":"say \\"token_ids\\":[1]"}', b'{"a":"say \\"token_ids\\":[1]"}'),
    ],
)
@pytest.mark.parametrize("last", [b"", b"0\r\n\r\n"])
def test_ids_are_taken_out(member: bytes, left: bytes, last: bytes) -> None:
    before = chunk(b"data: %b\n\n" % member)
    after = chunk(b"data: %b\n\n" % left)
    assert without_ids(before + last) == after + last
    assert without_ids(before + before + last) == after + after + last


@pytest.mark.parametrize(
    "data", [b"", b"0\r\n\r\n", b"5\r\ndata", b"data: 1", b"-1\r\n", b"3\r\nabcd\r\n", b"0\r\nA: b\r\n\r\n"]
)
def test_what_is_no_whole_chunk_stays(data: bytes) -> None:
    assert without_ids(data) == data
