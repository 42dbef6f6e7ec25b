"""A stream's head known from before means what the parser says, whatever date it has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.http.heads import ResponseHead
from fd_router.http.known_stream_head import KnownStreamHead
from fd_router.http.upstream_connection import UpstreamConnection
from tests.support.fake_upstream import OK, Line
from tests.support.plain_upstream import PlainConnection, conversation

DATE = b"Thu, 26 Nov 2026 23:00:00 GMT"
LATER = b"Thu, 26 Nov 2026 23:00:01 GMT"
EVENTS = b'11\r\ndata: {"x": 123}\n\r\n2\r\n\n\n\r\n'
END = b"0\r\n\r\n"


HEADS = [
    OK + b"date: %b\r\nserver: uvicorn\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nDate: %b\r\n\r\n",
    OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"x-date: %b\r\nDATE: %b\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"date: %b\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"date: %b\r\nconnection: x-date, keep-alive\r\nx-date: %b\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"date: %b\r\nconnection: date\r\nx-date: y\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"x-date: " + DATE + b"\r\ndate: %b\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"date:  " + DATE + b"\r\ndate: %b\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"date: %b\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    OK + b"date: %b\r\ncontent-length: 3\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ndate: %b\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"date: %b\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 199 X\r\ntransfer-encoding: gzip\r\ndate: %b\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\ndate: %b\r\ntransfer-encoding: chunked\r\n\r\n",
]
DATES = [
    DATE, LATER, b"Fri, 27 Nov 2026 00:00:00 GMT", b"Thu, 26 Nov 2026", b"Thu, 26 Nov\r\ncontent-length:3",
    b"Thu, 26 Nov\r\nx: y\r\nz: 012345", b"Thu, 26 Nov 2026 23:00:0\0 GMT", b"26 Nov 2026 23:00:01 GMT     ",
]  # fmt: skip
BODIES = [
    EVENTS + END,
    EVENTS + EVENTS + END,
    END,
    b"",
    EVENTS,
    b"zz\r\n" + END,
    EVENTS + END + b"\r\n",
    b"3\r\nabc\r\n" + END,
]


def _message(head: bytes, date: bytes, body: bytes) -> bytes:
    return head.replace(b"%b", date) + body


messages = st.builds(_message, st.sampled_from(HEADS), st.sampled_from(DATES), st.sampled_from(BODIES))
good = st.builds(_message, st.sampled_from(HEADS[:4]), st.sampled_from(DATES[:3]), st.just(EVENTS + END))


def _alike(head: bytes, dates: list[bytes], date: bytes, body: bytes) -> list[bytes]:
    return [*(_message(head, each, EVENTS + END) for each in dates), _message(head, date, body)]


dates = st.lists(st.sampled_from(DATES[:3]), max_size=3)
alike = st.builds(_alike, st.sampled_from(HEADS), dates, st.sampled_from(DATES), st.sampled_from(BODIES))
answers = st.one_of(alike, st.lists(st.one_of(good, messages), min_size=1, max_size=5))


def without_the_last(rest: int) -> Callable[[bytes], list[bytes]]:
    """Return what cuts an answer so that its last ``rest`` bytes come by themselves."""
    return lambda data: [data[: len(data) - rest], data[len(data) - rest :]]


@given(answers, st.sampled_from([0, 1, 4, 5, 9, 20, len(EVENTS + END), 60]))
def test_a_known_head_means_what_the_parser_says(answers: list[bytes], rest: int) -> None:
    parts_of = without_the_last(rest)
    assert conversation(UpstreamConnection, answers, parts_of) == conversation(PlainConnection, answers, parts_of)


@pytest.mark.parametrize("date", [DATE, LATER])
def test_the_header_lines_of_a_known_head_are_not_read_again(date: bytes) -> None:
    line = Line()
    first, second = line.send(), None
    for at, is_known in ((DATE, False), (date, True)):
        if second is None and is_known:
            second = line.send()
        line.receive(_message(HEADS[0], at, EVENTS))
        assert (line.connection._reader.head_size > 0) is is_known
        line.receive(END)
    assert second is not None
    assert (second.body, second.ending) == (EVENTS + END, "complete")
    assert second.head.forward == first.head.forward.replace(DATE, date)
    assert DATE in first.head.forward


@pytest.mark.parametrize(
    ("date", "is_known"),
    [(DATE, True), (LATER, True), (b"Thu, 26 Nov\r\nx: y\r\nz: 012345", False), (b"x" * len(DATE), False)],
)
def test_only_a_date_may_differ(date: bytes, is_known: bool) -> None:
    head = ResponseHead.of(200, OK + b"date: %b\r\n" % DATE, chunked=True)
    known = KnownStreamHead(_message(HEADS[0], DATE, b""), head)
    assert known.begins(_message(HEADS[0], date, EVENTS)) is is_known
    assert known.head.forward == OK + b"date: %b\r\n" % (date if is_known else DATE)
    assert not known.begins(_message(HEADS[0].replace(b"uvicorn", b"hypercd"), LATER, EVENTS))
    assert not known.begins(_message(HEADS[0], DATE, b"")[:-1])
