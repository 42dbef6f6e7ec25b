"""The filter of token ids: what it takes out, and what it leaves as it is, however the stream is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.http.dechunk import dechunked
from fd_router.http.heads import ResponseHead
from fd_router.routing.continuation.id_filter import ChunkedIdFilter, PlainIdFilter
from tests.support.outlets import Written

CHUNKED = ResponseHead.of(200, b"", chunked=True)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[at:end] for at, end in pairwise(places)]


def filtered(data: bytes, cuts: list[int]) -> bytes:
    shown = Written()
    outlet = ChunkedIdFilter(CHUNKED).before(shown)
    for piece in in_pieces(data, cuts):
        outlet.write(piece)
    assert b"" not in shown
    return b"".join(shown)


MEMBERS = [
    (b'{"a":1,"token_ids":[1,22]}', b'{"a":1}'),
    (b'{"token_ids": [ 1, 2 ], "a":1}', b'{"a":1}'),
    (b'{"prompt_token_ids":null}', b"{}"),
    (b'{"a":1,"completion_token_ids":[],"b":2}', b'{"a":1,"b":2}'),
    (b'{"a":1,"token_ids":[1],"prompt_token_ids":[2,3]}', b'{"a":1}'),
    (b'{"token_ids":[1],"prompt_token_ids":[2,3],"b":[1,2]}', b'{"b":[1,2]}'),
    (b'{"a":"say \\"token_ids\\":[1]"}', b'{"a":"say \\"token_ids\\":[1]"}'),
]


@pytest.mark.parametrize(("member", "left"), MEMBERS)
@pytest.mark.parametrize("last", [b"", b"0\r\n\r\n"])
def test_ids_are_taken_out(member: bytes, left: bytes, last: bytes) -> None:
    before = chunk(b"data: %b\n\n" % member)
    after = chunk(b"data: %b\n\n" % left)
    assert filtered(before + last, []) == after + last
    assert filtered(before + before + last, []) == after + after + last


@pytest.mark.parametrize(("member", "left"), MEMBERS)
def test_wherever_it_is_cut(member: bytes, left: bytes) -> None:
    data = chunk(b"data: %b\n\n" % member) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    for at in range(len(data)):
        for more in (0, 1, 2, 9):
            shown = filtered(data, [at, min(at + more, len(data))])
            assert dechunked(shown) == b"data: %b\n\ndata: [DONE]\n\n" % left
            assert shown.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("end", ["content-length", "close"])
@pytest.mark.parametrize(("member", "left"), MEMBERS)
def test_a_body_that_is_not_in_chunks(end: str, member: bytes, left: bytes) -> None:
    data, after = b"data: %b\n\n," % member, b"data: %b\n\n" % left
    head = ResponseHead.of(200, b"", len(data) if end == "content-length" else -1)
    for size in range(1, len(data) + 1):
        shown = Written()
        ids = PlainIdFilter(head)
        outlet = ids.before(shown)
        for at in range(0, len(data), size):
            outlet.write(data[at : at + size])
        if end == "close":
            assert ids.head is head
            assert b"".join(shown) == after  # what may be the beginning of a member isn't shown before more comes
        else:
            assert ids.head.framing == b"transfer-encoding: chunked\r\n"
            assert dechunked(b"".join(shown)) == after + b","
            assert b"".join(shown).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", b""), (b"0\r\n\r\n", b"0\r\n\r\n"), (b"5\r\ndata", b"4\r\ndata\r\n"), (b"5", b""),
        (b"0\r\nA: b\r\n\r\n", b"0\r\n\r\n"), (b"3;x=y\r\nabc\r\n", b"3\r\nabc\r\n"),
        (b'30\r\ndata: {"token_ids":[1,2', b'7\r\ndata: {\r\n'),
    ],
)  # fmt: skip
def test_what_is_no_whole_chunk(data: bytes, shown: bytes) -> None:
    assert filtered(data, []) == shown


ids_of_any_length = st.lists(st.integers(0, 200_000), max_size=40)
names = st.sampled_from(["token_ids", "prompt_token_ids", "completion_token_ids", "a", "b", "c"])
values = st.one_of(ids_of_any_length, st.none(), st.text(max_size=30), st.sampled_from(['"token_ids":[1]', "[,", '",']))
texts = st.dictionaries(names, values, max_size=5).map(
    lambda fields: {name: value for name, value in fields.items() if len(name) == 1 or not isinstance(value, str)}
)


@given(st.lists(st.dictionaries(st.sampled_from("xyz"), texts, max_size=3), max_size=4), st.data())
def test_no_id_is_shown_wherever_it_is_cut(events: list[dict[str, object]], data: st.DataObject) -> None:
    spaces = data.draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n ", " : ")]))
    pieces = [b"data: %b\n\n" % json.dumps(one, separators=spaces, ensure_ascii=False).encode() for one in events]
    if data.draw(st.booleans()):  # as a proxy on the way may have it
        content = b"".join(pieces)
        pieces = in_pieces(content, data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    framed = b"".join([chunk(piece) for piece in pieces if piece]) + b"0\r\n\r\n"
    cuts = data.draw(st.lists(st.integers(0, len(framed)), max_size=8))
    shown = dechunked(filtered(framed, cuts)).split(b"\n\n")[:-1]
    assert [json.loads(event[6:]) for event in shown] == [without_ids(event) for event in events]


def without_ids(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_ids(one) for name, one in value.items() if not name.endswith("token_ids")}
    return value
