"""What arrives on a client's connection, and what is read out of it: whole, byte by byte, with more behind it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.errors import BadRequestError, HttpError
from fd_router.messages import Request
from fd_router.proxy.reader import ReaderSettings, RequestReader

MAX_HEAD = 4096
MAX_BODY = 1000


class PlainReader(RequestReader):
    """Parses every head, also one that it has just seen."""

    __slots__ = ()

    def _read_again(self, known: object, data: bytes) -> bool:
        return False


def make_reader(kind: type[RequestReader] = RequestReader) -> RequestReader:
    ids = count(1)
    return kind(ReaderSettings(MAX_HEAD, lambda path: MAX_BODY, lambda: 7.0, lambda: f"made-{next(ids)}"))


def read(data: bytes, step: int = 0) -> list[Request | HttpError]:
    reader = make_reader()
    for start in range(0, len(data), step or max(1, len(data))):
        reader.feed(data[start : start + (step or len(data))])
    return list(reader.ready)


def only(data: bytes) -> Request:
    """Read the one request in ``data``; it must be the same in pieces of any size."""
    readings = [read(data), read(data, 1), read(data, 7)]
    for items in readings:
        assert len(items) == 1
        assert isinstance(items[0], Request), items[0]
    assert readings[0] == readings[1] == readings[2]
    assert isinstance(readings[0][0], Request)
    return readings[0][0]


def refusal(data: bytes) -> HttpError:
    """Read ``data``, whose last item must be a refusal with the same status however it comes."""
    lasts = [read(data)[-1], read(data, 1)[-1], read(data, 7)[-1]]
    for last in lasts:
        assert isinstance(last, HttpError), last
    assert len({last.status for last in lasts if isinstance(last, HttpError)}) == 1
    assert isinstance(lasts[0], HttpError)
    return lasts[0]


HOST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n\r\n"


class TestRequests:
    def test_a_sized_body(self) -> None:
        request = only(HOST + b"Accept: */*\r\nContent-Length: 5\r\n\r\nhello")
        assert (request.head.method, request.head.path, request.body) == ("POST", "/a", b"hello")
        assert request.head.headers == [(b"Accept", b"*/*")]
        assert request.head.forward == b"Accept: */*\r\n"
        assert request.head.keep_alive
        assert request.received_at == 7.0

    def test_no_body_and_a_query(self) -> None:
        request = only(b"GET /a/b?c=d?e HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (request.head.path, request.head.query, request.body) == ("/a/b", "c=d?e", b"")

    def test_a_chunked_body_is_put_together(self) -> None:
        assert only(CHUNKED + b"3\r\nabc\r\nA;note=x\r\n0123456789\r\n0\r\n\r\n").body == b"abc0123456789"

    def test_trailers_are_dropped(self) -> None:
        request = only(CHUNKED + b"1\r\na\r\n0\r\nX-Late: 1\r\nX-Request-Id: 2\r\n\r\n")
        assert request.body == b"a"
        assert request.head.headers == []
        assert request.request_id == "made-1"

    def test_framing_and_host_are_not_passed_on(self) -> None:
        request = only(CHUNKED.replace(b"Host: x", b"Host: x\r\nTrailer: y\r\nExpect: 100-continue") + b"0\r\n\r\n")
        assert request.head.forward == b""

    def test_hop_by_hop_headers_and_those_named_by_connection_are_removed(self) -> None:
        names = b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authorization", b"TE", b"Upgrade", b"X-One", b"x-TWO"
        lines = b"".join(b"%b: 1\r\n" % name for name in names)
        request = only(HOST + lines + b"Connection: x-one ,X-Two, close\r\nStays: 1\r\nContent-Length: 0\r\n\r\n")
        assert request.head.forward == b"Stays: 1\r\n"
        assert not request.head.keep_alive

    def test_connection_cannot_remove_the_framing(self) -> None:
        request = only(HOST + b"Connection: content-length, host\r\nContent-Length: 2\r\n\r\nab")
        assert request.body == b"ab"

    def test_several_connection_headers_all_count(self) -> None:
        head = b"Connection: a\r\nA: 1\r\nB: 1\r\nC: 1\r\nConnection: b\r\nContent-Length: 0\r\n\r\n"
        assert only(HOST + head).head.forward == b"C: 1\r\n"

    def test_request_id_and_trace_are_read(self) -> None:
        request = only(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\nTraceParent: 00-ab\r\n\r\n")
        assert request.request_id == "mine"
        assert request.head.traceparent == b"00-ab"
        assert request.head.forward == b"TraceParent: 00-ab\r\n"

    def test_an_empty_request_id_is_none(self) -> None:
        assert only(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID:\r\n\r\n").request_id == "made-1"

    @pytest.mark.parametrize(
        ("head", "keep_alive"),
        [
            (b"GET / HTTP/1.0\r\n\r\n", False),
            (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
            (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", False),
            (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, close\r\n\r\n", False),
        ],
    )
    def test_keep_alive(self, head: bytes, keep_alive: bool) -> None:
        request = only(head)
        assert request.head.keep_alive is keep_alive
        assert request.head.is_http_1_0 is (b"/1.0" in head)
        assert request.head.version == ("1.0" if b"/1.0" in head else "1.1")

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            (b"http://h/a?b", "/a", "b"),
            (b"HTTPS://h:1/a/b", "/a/b", ""),
            (b"http://h", "/", ""),
            (b"http://h?x=/y", "/", "x=/y"),
            (b"http://user@h/a//b", "/a//b", ""),
            (b"//h/a", "//h/a", ""),
            (b"*", "*", ""),
        ],
    )
    def test_targets(self, target: bytes, path: str, query: str) -> None:
        request = only(b"OPTIONS %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
        assert (request.head.path, request.head.query) == (path, query)

    def test_pipelined_requests_stay_in_order(self) -> None:
        data = HOST + b"Content-Length: 1\r\n\r\n1" + CHUNKED + b"1\r\n2\r\n0\r\n\r\n" + b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n"
        for step in (0, 1, 5, 64):
            items = read(data, step)
            assert [(x.head.path, x.body) for x in items if isinstance(x, Request)] == [
                ("/a", b"1"),
                ("/a", b"2"),
                ("/3", b""),
            ]

    def test_blank_lines_between_requests_are_ignored(self) -> None:
        items = read(b"\r\n" + HOST + b"Content-Length: 1\r\n\r\n1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 1)
        assert [x.head.method for x in items if isinstance(x, Request)] == ["POST", "GET"]

    def test_garbage_behind_a_request_is_refused_after_it(self) -> None:
        for step in (0, 1):
            first, second = read(HOST + b"Content-Length: 1\r\n\r\n1\x00\x01\x02", step)
            assert isinstance(first, Request)
            assert isinstance(second, HttpError)
            assert second.status == 400

    def test_nothing_is_read_after_the_last_request(self) -> None:
        first, second = read(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert isinstance(first, Request)
        assert isinstance(second, HttpError)

    def test_state_and_repr(self) -> None:
        reader = make_reader()
        assert repr(reader) == "<RequestReader idle ready=0>"
        reader.feed(b"P")
        assert repr(reader) == "<RequestReader head ready=0>"
        reader.feed(HOST[1:] + b"Content-Length: 2\r\n\r\na")
        assert repr(reader) == "<RequestReader body ready=0>"
        reader.feed(b"b")
        assert repr(reader) == "<RequestReader idle ready=1>"
        reader.feed(b"\x00")
        assert repr(reader) == "<RequestReader refused ready=2>"
        reader.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert len(reader.ready) == 2

    def test_a_bug_in_a_callback_is_not_blamed_on_the_client(self) -> None:
        def clock() -> float:
            raise RuntimeError("a bug")

        reader = RequestReader(ReaderSettings(MAX_HEAD, lambda path: MAX_BODY, clock, str))
        with pytest.raises(Exception, match="callback"):
            reader.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


class TestExpect:
    def test_the_client_waits_for_leave(self) -> None:
        reader = make_reader()
        reader.feed(HOST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
        assert reader.wants_continue
        reader.feed(b"ab")
        assert not reader.wants_continue
        assert reader.ready

    def test_another_expectation_is_refused(self) -> None:
        assert refusal(HOST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\nab").status == 417

    def test_http_1_0_has_no_expectations(self) -> None:
        reader = make_reader()
        reader.feed(b"POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert not reader.wants_continue
        assert not reader.ready


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"


class TestUpgrade:
    def test_is_declined(self) -> None:
        request = only(b"GET /a HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n")
        assert request.head.forward == b""
        assert request.head.keep_alive

    def test_a_sized_body_is_the_requests(self) -> None:
        assert only(HOST + UPGRADE + b"Content-Length: 5\r\n\r\nhello").body == b"hello"

    def test_a_chunked_body_is_the_requests(self) -> None:
        data = HOST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        assert only(data).body == b"hello"

    def test_a_hidden_request_in_the_body_stays_a_body(self) -> None:
        hidden = b"DELETE /all HTTP/1.1\r\nHost: x\r\n\r\n"
        assert only(HOST + UPGRADE + b"Content-Length: %d\r\n\r\n%b" % (len(hidden), hidden)).body == hidden

    def test_the_next_requests_are_read(self) -> None:
        one = HOST + UPGRADE + b"Content-Length: 1\r\n\r\n1"
        for step in (0, 1, 9):
            items = read(one * 3 + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n", step)
            assert [x.body for x in items if isinstance(x, Request)] == [b"1", b"1", b"1", b""]

    def test_thousands_in_one_read_need_no_stack(self) -> None:
        assert len(read((b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n") * 3000)) == 3000

    def test_limits_hold(self) -> None:
        assert refusal(HOST + UPGRADE + b"Content-Length: 1001\r\n\r\n").status == 413

    def test_a_refused_head_stays_refused(self) -> None:
        assert refusal(HOST + UPGRADE + b"Expect: no\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n").status == 417

    @pytest.mark.parametrize("target", [b"/a", b"h:443"])
    def test_connect_is_refused(self, target: bytes) -> None:
        assert refusal(b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n" % target).status == 501

    def test_http_2_is_refused(self) -> None:
        assert refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 400


class TestLimits:
    def test_the_largest_body_passes_and_one_more_byte_does_not(self) -> None:
        assert len(only(HOST + b"Content-Length: 1000\r\n\r\n" + b"a" * 1000).body) == 1000
        error = refusal(HOST + b"Content-Length: 1001\r\n\r\n")
        assert (error.status, error.code) == (413, "body_too_large")

    def test_chunks_are_counted(self) -> None:
        assert len(only(CHUNKED + b"1f4\r\n" + b"a" * 500 + b"\r\n1f4\r\n" + b"a" * 500 + b"\r\n0\r\n\r\n").body) == 1000
        assert refusal(CHUNKED + (b"64\r\n" + b"a" * 100 + b"\r\n") * 11).status == 413

    def test_no_more_is_kept_of_a_body_that_is_too_large(self) -> None:
        reader = make_reader()
        for _ in range(50):
            reader.feed(CHUNKED if not reader.state else b"64\r\n" + b"a" * 100 + b"\r\n")
        assert len(reader.ready) == 1
        assert not reader._body

    @pytest.mark.parametrize("part", [b"/" + b"a" * 5000, b"/ HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 5000])
    def test_a_large_head(self, part: bytes) -> None:
        end = b"\r\n\r\n" if b"HTTP" in part else b" HTTP/1.1\r\nHost: x\r\n\r\n"
        error = refusal(b"GET " + part + end)
        assert (error.status, error.code) == (431, "head_too_large")

    def test_many_small_headers(self) -> None:
        assert refusal(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 1000 + b"\r\n").status == 431

    def test_a_head_may_be_as_large_as_the_limit_with_a_body_in_the_same_read(self) -> None:
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nA: %b\r\nContent-Length: 999\r\n\r\n"
        data = head % (b"a" * (MAX_HEAD - len(head) + 2)) + b"b" * 999
        assert len(only(data).body) == 999

    def test_endless_blank_lines(self) -> None:
        assert refusal(b"\r\n" * 3000).status == 431

    def test_endless_trailers_and_an_endless_trailer(self) -> None:
        for trailers in (b"a: b\r\n" * 2000, b"a: " + b"b" * 10_000):
            reader = make_reader()
            for start in range(0, len(trailers), 500):
                reader.feed((CHUNKED + b"1\r\na\r\n0\r\n") * (not start) + trailers[start : start + 500])
            (error,) = reader.ready
            assert isinstance(error, HttpError)
            assert error.status == 431

    def test_small_chunks_far_apart_are_fine(self) -> None:
        reader = make_reader()
        reader.feed(CHUNKED)
        for _ in range(900):
            for part in (b"0000001\r\n", b"a", b"\r\n"):
                reader.feed(part)
        reader.feed(b"0\r\n\r\n")
        (request,) = reader.ready
        assert isinstance(request, Request)
        assert len(request.body) == 900

    def test_the_limit_depends_on_the_path(self) -> None:
        reader = RequestReader(ReaderSettings(MAX_HEAD, {"/a": 3, "/b": 1}.__getitem__, lambda: 0.0, lambda: "i"))
        reader.feed(HOST + b"Content-Length: 3\r\n\r\nabc" + HOST.replace(b"/a", b"/b") + b"Content-Length: 3\r\n\r\nabc")
        first, second = reader.ready
        assert isinstance(first, Request)
        assert isinstance(second, HttpError)

    def test_refuse_is_heard_once(self) -> None:
        reader = make_reader()
        reader.refuse(BadRequestError("late", status=408))
        reader.refuse(BadRequestError("later", status=408))
        assert [str(item) for item in reader.ready] == ["late"]


REFUSED = {
    "CL and TE": (HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "TE and CL": (CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n0\r\n\r\n", 400),
    "two CLs": (HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "two equal CLs": (HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "CL list": (HOST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "CL underscore": (HOST + b"Content-Length: 1_0\r\n\r\n0123456789", 400),
    "CL plus": (HOST + b"Content-Length: +5\r\n\r\nabcde", 400),
    "CL minus": (HOST + b"Content-Length: -5\r\n\r\nabcde", 400),
    "CL hex": (HOST + b"Content-Length: 0x5\r\n\r\nabcde", 400),
    "CL two numbers": (HOST + b"Content-Length: 1 0\r\n\r\n0123456789", 400),
    "CL empty": (HOST + b"Content-Length:\r\n\r\n", 400),
    "CL overflow": (HOST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "CL in the trailers": (CHUNKED + b"1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n", 400),
    "TE gzip": (HOST + b"Transfer-Encoding: gzip\r\n\r\nabc", 501),
    "TE gzip, chunked": (HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "TE on two lines": (HOST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "TE chunked, gzip": (HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "TE chunked twice": (HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "TE xchunked": (HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "TE identity": (HOST + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "TE quoted": (HOST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 501),
    "TE vertical tab": (HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "TE in HTTP/1.0": (b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "bare LF": (b"POST /a HTTP/1.1\nHost: x\n\n", 400),
    "bare LF after a header": (HOST + b"A: b\nContent-Length: 0\r\n\r\n", 400),
    "bare LF at the end": (HOST + b"Content-Length: 0\r\n\n", 400),
    "bare CR": (HOST + b"A: b\rC: d\r\n\r\n", 400),
    "CR CR LF": (HOST + b"A: b\r\r\n\r\n", 400),
    "obs-fold": (HOST + b"A: b\r\n c\r\n\r\n", 400),
    "obs-fold with a tab": (HOST + b"A: b\r\n\tc\r\n\r\n", 400),
    "obs-fold of CL": (HOST + b"Content-Length:\r\n 5\r\n\r\nabcde", 400),
    "obs-fold of TE": (HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    "obs-fold of the request id": (HOST + b"X-Request-Id: a\r\n b\r\n\r\n", 400),
    "fold of the first line": (b"POST /a HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "space before the colon": (HOST + b"A : b\r\n\r\n", 400),
    "space before the colon of TE": (HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "no colon": (HOST + b"Abc\r\n\r\n", 400),
    "no name": (HOST + b": b\r\n\r\n", 400),
    "NUL in a name": (HOST + b"A\x00: b\r\n\r\n", 400),
    "name not ASCII": (HOST + "é: b\r\n\r\n".encode(), 400),
    "no Host": (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "two Hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 400),
    "unknown method": (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "method in lower case": (b"post / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "target of another scheme": (b"GET ftp://h/a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "chunk size with a space": (CHUNKED + b"1 \r\na\r\n0\r\n\r\n", 400),
    "chunk size with a minus": (CHUNKED + b"-1\r\na\r\n0\r\n\r\n", 400),
    "chunk size with 0x": (CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400),
    "chunk size overflow": (CHUNKED + b"fffffffffffffffff\r\na\r\n0\r\n\r\n", 400),
    "chunk size with a bare LF": (CHUNKED + b"1\na\r\n0\r\n\r\n", 400),
    "chunk with a bare LF": (CHUNKED + b"1\r\na\n0\r\n\r\n", 400),
    "chunk longer than it says": (CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_is_refused(data: bytes, status: int) -> None:
    assert refusal(data).status == status
    assert len(read(data)) == 1
    assert len(read(data, 1)) == 1


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
@pytest.mark.parametrize("place", ["X-A: b%bc", "X-Request-Id: b%bc", "X-%b: c", "Connection: close%b"])
def test_no_control_character_gets_through_a_head(code: int, place: str) -> None:
    data = HOST + place.encode() % bytes([code]) + b"\r\nContent-Length: 0\r\n\r\n"
    assert refusal(data).status == 400


@pytest.mark.parametrize("code", [*range(33), *range(127, 256)])
def test_no_control_character_gets_through_a_target(code: int) -> None:
    for item in read(b"GET /a%bb HTTP/1.1\r\nHost: x\r\n\r\n" % bytes([code])):
        assert isinstance(item, HttpError)


@pytest.mark.parametrize("value", [b"005", b"   5", b"5   ", b"\t5\t"])
def test_odd_but_valid_lengths_mean_what_they_say(value: bytes) -> None:
    assert only(HOST + b"Content-Length: %b\r\n\r\nabcde" % value).body == b"abcde"


# The known head

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
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


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
