"""A long body with something put into it or taken out, sent in pieces."""

from __future__ import annotations

from fd_router.spliced_body import LONG, SplicedBody, base_of, changed, changes_of, pieces_of


def test_what_it_is_made_of_is_not_copied() -> None:
    body = b"{" + b"x" * LONG + b"}"
    spliced = changed(body, ((1, 1, b"new,"),))
    assert isinstance(spliced, SplicedBody)
    assert bytes(spliced) == b"{new," + body[1:]
    assert len(spliced) == len(body) + 4
    first, rest = spliced.pieces
    assert (first, isinstance(rest, memoryview)) == (b"{new,", True)
    assert isinstance(rest, memoryview)
    assert rest.obj is body
    assert pieces_of((b"head", spliced)) == [b"head", first, rest]
    assert repr(spliced) == f"<SplicedBody {len(body) + 4} bytes>"


def test_a_short_one_is_copied() -> None:
    assert changed(b"{a,b}", ((1, 3, b""), (4, 4, b",c"))) == b"{b,c}"
    assert (base_of(b"a"), changes_of(b"a")) == (b"a", ())


def test_changes_of_what_was_changed_are_of_places_in_what_it_was_made_of() -> None:
    body = b"{aaaa,bbbb,cccc" + b"x" * LONG + b"}"
    spliced = changed(changed(body, ((1, 1, b"one,"), (6, 10, b"B"))), ((1, 1, b"two,"), (11, 15, b"")))
    assert bytes(spliced) == b"{two,one,aaaa,B," + b"x" * LONG + b"}"
    assert base_of(spliced) is body
    assert bytes(changed(spliced, ((1, 11, b""),))) == b"{two,one," + b"x" * LONG + b"}", "B went with its place"
