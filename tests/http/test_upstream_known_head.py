"""The short way past the parser must not be seen: an answer's head known from before means what the parser says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.http.upstream_connection import UpstreamConnection
from tests.support.fake_upstream import OK, SIZED, exchange
from tests.support.plain_upstream import PlainConnection, conversation

HEADS = [
    OK + b"Content-Length: %b\r\n\r\n",
    OK + b"A: b\r\ncontent-length: %b\r\nC: d\r\n\r\n",
    OK + b"X-Length: 3\r\nContent-Length: %b\r\nX-Content-Length: 3\r\n\r\n",
    OK + b"X-Content-Length: %b\r\n\r\n",
    OK + b"Content-Length: %b\r\nContent-Length: 3\r\n\r\n",
    OK + b"Content-Length: %b\r\nConnection: close\r\n\r\n",
    OK + b"Content-Length: %b\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: %b\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nContent-Length: %b\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n",
    OK + b"A: %b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    OK + b"A: %b\r\n\r\n",
]
LENGTHS = [b"%d", b"%d", b"%d", b"+%d", b"0%d", b" %d", b"%d ", b"%d0", b"1_%d", b"-%d", b"%d\r\nA: b", b"%d, %d"]
BODIES = [b"", b"a", b"abc", b"0123456789", b"0\r\n\r\n", SIZED]


def _message(head: bytes, length: bytes, body: bytes) -> bytes:
    value = length.replace(b"%d", b"%d" % len(body))
    return head.replace(b"%b", value) + body


messages = st.builds(_message, st.sampled_from(HEADS), st.sampled_from(LENGTHS), st.sampled_from(BODIES))
runs = st.builds(lambda message, times: [message] * times, messages, st.integers(1, 3))
sequences = st.lists(runs, min_size=1, max_size=3).map(lambda lists: [item for items in lists for item in items])


def in_steps(step: int) -> Callable[[bytes], list[bytes]]:
    """Return what cuts an answer into parts of ``step`` bytes; 0: it comes in one."""
    return lambda data: [data[at : at + (step or len(data))] for at in range(0, len(data), step or len(data) or 1)]


@given(sequences, st.sampled_from([0, 0, 1, 17]))
def test_a_known_head_means_what_the_parser_says(answers: list[bytes], step: int) -> None:
    assert conversation(UpstreamConnection, answers, in_steps(step)) == conversation(
        PlainConnection, answers, in_steps(step)
    )


def test_the_second_of_two_equal_heads_is_not_parsed() -> None:
    line, first = exchange(SIZED)
    line.connection._reader.parser = None
    second = line.send()
    line.receive(SIZED.replace(b"4\r\n\r\nfine", b"10\r\n\r\n0123456789"))
    assert (second.body, second.ending, second.head.length) == (b"0123456789", "complete", 10)
    assert second.head.forward == first.head.forward


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_length_where_no_body_may_be_is_not_passed_on_and_not_learned(status: bytes) -> None:
    line, listener = exchange(b"HTTP/1.1 %b\r\nContent-Length: 3\r\n\r\n" % status)
    assert listener.ending == "complete"
    assert listener.head.framing == b""
    assert line.connection._known is None
    assert not line.connection.is_idle, "the body may be on its way"
