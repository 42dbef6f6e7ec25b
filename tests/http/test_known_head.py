"""Heads that are known: which messages have one, and which connections have one together."""

from __future__ import annotations

import gc

import pytest

from fd_router.http.forwarding import Peer
from fd_router.http.heads import ResponseHead
from fd_router.http.known_head import KnownHead
from fd_router.http.messages import Request
from fd_router.http.request_reader import RequestReader
from fd_router.http.upstream_connection import UpstreamConnection
from tests.http.test_request_reader import HOST, make_reader
from tests.support.fake_transport import FakeTransport
from tests.support.fake_upstream import HEAD, SIZED, FakeListener, Line


class TestKnownHead:
    MESSAGE = b"POST / HTTP/1.1\r\nX-Content-Length: 9\r\ncontent-LENGTH: 3\r\nA: b\r\n\r\nabc"

    def test_another_body(self) -> None:
        known = KnownHead.learn(self.MESSAGE, 3, "read")
        assert known is not None
        assert known.body_of(self.MESSAGE) == b"abc"
        assert known.meaning == "read"
        assert known.body_of(self.MESSAGE.replace(b": 3\r", b": 12\r") + b"0123456789"[:9]) == b"abc012345678"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"A: b", b"A: c"),
            (b": 9", b": 8"),
            (b"POST", b"PUT"),
            (b"H: 3", b"H: 03"),
            (b"H: 3", b"H: +3"),
            (b"H: 3", b"H: 3 "),
            (b"H: 3", b"H:  3"),
            (b"H: 3", b"H: 4"),
            (b"H: 3", b"H: 2"),
            (b"H: 3", b"H: "),
            (b"H: 3\r\n", b"H: 3\n"),
            (b"A: b\r\n", b""),
            (b"A: b\r\n", b"A: b\r\nC: d\r\n"),
            (b"abc", b"abcd"),
            (b"abc", b""),
            (b"\r\n\r\nabc", b""),
        ],
    )
    def test_any_difference_is_for_the_parser(self, old: bytes, new: bytes) -> None:
        known = KnownHead.learn(self.MESSAGE, 3, "read")
        assert known is not None
        assert self.MESSAGE.replace(old, new) != self.MESSAGE
        assert known.body_of(self.MESSAGE.replace(old, new)) is None

    @pytest.mark.parametrize(
        "message",
        [MESSAGE + b"x", MESSAGE[:-1], MESSAGE.replace(b": 3", b": 03"), b"GET / HTTP/1.1\r\n\r\n", b"", b"abc"],
    )
    def test_what_is_not_learned(self, message: bytes) -> None:
        assert KnownHead.learn(message, 3, "read") is None


class TestOfManyConnections:
    def test_equal_heads_of_clients_are_one(self) -> None:
        first = make_reader()
        second = RequestReader(first._settings)
        for size, reader in ((3, first), (10, second), (12, first)):
            reader.feed(HOST + b"A: b\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size)
        heads = [item.head for reader in (first, second) for item in reader.ready if isinstance(item, Request)]
        assert len(heads) == 3
        assert heads[0] is heads[1], "the same connection's"
        second.feed(HOST + b"A: b\r\nContent-Length: 1\r\n\r\na")
        assert second.ready[-1].head is heads[0], "another one's"  # type: ignore[union-attr]

    @pytest.mark.parametrize("difference", ["bytes", "address", "meaning"])
    def test_what_is_not_equal_is_not_one(self, difference: str) -> None:
        first = make_reader()
        second = RequestReader(first._settings)
        lines = b"Authorization: a\r\n"
        first.feed(HOST + lines + b"Content-Length: 1\r\n\r\na")
        if difference == "bytes":
            lines += b"A: b\r\n"
        elif difference == "address":
            second.peer = Peer("10.0.0.2")
        else:
            first._settings.keep_authorization = False
        for _ in range(2):
            second.feed(HOST + lines + b"Content-Length: 1\r\n\r\na")
        one, other, again = [item.head for item in (*first.ready, *second.ready) if isinstance(item, Request)]
        assert again is other
        assert one is not other
        assert (one == other) == (difference == "address" and one.hops == other.hops)

    def test_equal_heads_of_instances_are_one(self) -> None:
        line = Line()
        other = UpstreamConnection(line.owner, line.connection._settings)
        transport = FakeTransport(line.loop)
        transport.connect(other)
        line.send()
        line.receive(SIZED)
        for data in (SIZED.replace(b"4\r\n\r\nfine", b"10\r\n\r\n0123456789"), SIZED):
            other.send(listener := FakeListener(), HEAD)
            line.loop.run_soon()
            transport.receive(data)
            assert listener.ending == "complete"
        assert other._known is line.connection._known
        assert listener.head == ResponseHead.of(200, b"HTTP/1.1 200 OK\r\nA: b\r\n", 4)

    def test_they_live_as_long_as_a_connection_has_them(self) -> None:
        reader = make_reader()
        heads = reader._settings.heads
        reader.feed(HOST + b"Content-Length: 1\r\n\r\na")
        assert len(heads) == 1
        reader.feed(HOST + b"A: b\r\nContent-Length: 1\r\n\r\na")
        assert len(heads) == 1
        reader.close()
        del reader
        gc.collect()
        assert len(heads) == 0

    def test_a_head_with_a_trace_id_does_not_come_again(self) -> None:
        reader = make_reader()
        for number in range(2):
            reader.feed(
                HOST + b"traceparent: 00-%032x-00f067aa0ba902b7-01\r\nContent-Length: 1\r\n\r\na" % (number + 1)
            )
            assert len(reader._settings.heads) == 0
        assert [item.head.trace_id[-1] for item in reader.ready if isinstance(item, Request)] == ["1", "2"]
