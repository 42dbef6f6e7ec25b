"""The short way past the parser must not be seen: heads known from before mean what the parser says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fd_router.errors import HttpError
from fd_router.http.messages import Request
from fd_router.http.request_reader import RequestReader
from tests.http.test_request_reader import HOST, make_reader, read


class PlainReader(RequestReader):
    """Parses every head, also one that it has just seen."""

    __slots__ = ()

    def _read_again(self, known: object, data: bytes) -> bool:
        return False


HEADS = [
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\ncontent-length: %b\r\nA: b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nContent-Length: %b\r\nHost: x\r\nX-Length: 7\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nX-Content-Length: 3\r\nContent-Length: %b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nX-Content-Length: %b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\nContent-Length: 3\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\nConnection: close\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\nX-Request-Id: me\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\nExpect: 100-continue\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"POST /a HTTP/1.0\r\nContent-Length: %b\r\n\r\n",
    b"POST /a HTTP/1.0\r\nContent-Length: %b\r\nConnection: keep-alive\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\nPOST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nA: %b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]
WAYS: list[Callable[[int], bytes]] = [
    lambda n: b"%d" % n,
    lambda n: b"%d" % n,
    lambda n: b"%d" % n,
    lambda n: b"+%d" % n,
    lambda n: b"0%d" % n,
    lambda n: b" %d" % n,
    lambda n: b"%d " % n,
    lambda n: b"%d" % (n + 1),
    lambda n: b"%d" % max(0, n - 1),
    lambda n: b"1_0",
    lambda n: b"-1",
    lambda n: b"",
    lambda n: b"9" * 30,
    lambda n: b"%d\r\nA: b" % n,
]
BODIES = [b"", b"a", b"abc", b"0123456789", b"0\r\n\r\n", b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"z" * 1001]


def _message(head: bytes, way: Callable[[int], bytes], body: bytes) -> bytes:
    return (head % way(len(body)) if b"%b" in head else head) + body


messages = st.builds(_message, st.sampled_from(HEADS), st.sampled_from(WAYS), st.sampled_from(BODIES))
runs = st.builds(lambda message, times: [message] * times, messages, st.integers(1, 3))  # heads are known by repetition
sequences = st.lists(runs, min_size=1, max_size=4).map(lambda lists: [item for items in lists for item in items])


def splits(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


def outcome(kind: type[RequestReader], pieces: list[bytes]) -> list[object]:
    reader = make_reader(kind)
    states: list[object] = []
    for piece in pieces:
        reader.feed(piece)
        states.append((reader.state, reader.is_refused, reader.wants_continue, len(reader.ready)))
    items = [(x.status, x.message) if isinstance(x, HttpError) else x for x in reader.ready]
    return [*states, *items]


@given(sequences, st.lists(st.integers(0, 2000), max_size=4), st.booleans())
def test_a_known_head_means_what_the_parser_says(sequence: list[bytes], cuts: list[int], whole: bool) -> None:
    pieces = sequence if whole else splits(b"".join(sequence), cuts)
    assert outcome(RequestReader, pieces) == outcome(PlainReader, pieces)


@given(st.lists(st.sampled_from(HEADS[:3]), min_size=1, max_size=5), st.lists(st.integers(0, 2000), max_size=8))
def test_requests_are_the_same_in_any_splitting(heads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(head % b"3" + b"abc" for head in heads)
    reader = make_reader()
    for piece in splits(data, cuts):
        reader.feed(piece)
    assert list(reader.ready) == read(data)


def test_the_second_of_two_equal_heads_is_not_parsed() -> None:
    reader = make_reader()
    reader.feed(HOST + b"Content-Length: 3\r\n\r\nabc")
    reader._parser = None
    reader.feed(HOST + b"Content-Length: 10\r\n\r\n0123456789")
    first, second = reader.ready
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert second.body == b"0123456789"
    assert second.head is first.head
    assert (first.request_id, second.request_id) == ("made-1", "made-2")


def test_a_known_head_does_not_get_round_the_body_limit() -> None:
    reader = make_reader()
    for size in (3, 1001):
        reader.feed(HOST + b"Content-Length: %d\r\n\r\n" % size + b"a" * size)
    assert [item.status for item in reader.ready if isinstance(item, HttpError)] == [413]
