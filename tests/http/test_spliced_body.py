"""A long body with something put into it, sent in pieces."""

from __future__ import annotations

from fd_router.http.spliced_body import SplicedBody, pieces_of


def test_what_it_is_made_of_is_not_copied() -> None:
    body = b"{" + b"x" * 20_000 + b"}"
    spliced = SplicedBody(body, 1, b"new,")
    assert bytes(spliced) == b"{new," + body[1:]
    assert len(spliced) == len(body) + 4
    first, rest = spliced.pieces
    assert isinstance(rest, memoryview)
    assert rest.obj is body
    assert pieces_of((b"head", spliced)) == [b"head", first, rest]
    assert "20006 bytes" in repr(spliced)
