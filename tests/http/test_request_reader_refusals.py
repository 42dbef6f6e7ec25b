"""Requests that are refused: those that could be read in two ways, and those that are too large."""

from __future__ import annotations

import pytest

from fd_router.errors import BadRequestError, HttpError
from fd_router.http.messages import Request
from fd_router.http.reader_settings import ReaderSettings
from fd_router.http.request_reader import RequestReader
from tests.http.test_request_reader import CHUNKED, HOST, MAX_HEAD, heads_of, make_reader, only, read, refusal


class TestLimits:
    def test_the_largest_body_passes_and_one_more_byte_does_not(self) -> None:
        assert len(only(HOST + b"Content-Length: 1000\r\n\r\n" + b"a" * 1000).body) == 1000
        error = refusal(HOST + b"Content-Length: 1001\r\n\r\n")
        assert (error.status, error.code) == (413, "body_too_large")

    def test_chunks_are_counted(self) -> None:
        assert (
            len(only(CHUNKED + b"1f4\r\n" + b"a" * 500 + b"\r\n1f4\r\n" + b"a" * 500 + b"\r\n0\r\n\r\n").body) == 1000
        )
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
        reader = RequestReader(
            ReaderSettings(heads_of(MAX_HEAD), {"/a": 3, "/b": 1}.__getitem__, lambda: 0.0, lambda: "i")
        )
        reader.feed(
            HOST + b"Content-Length: 3\r\n\r\nabc" + HOST.replace(b"/a", b"/b") + b"Content-Length: 3\r\n\r\nabc"
        )
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
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
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


def test_a_body_of_tiny_chunks_takes_no_more_memory_than_it_has_bytes() -> None:
    reader = RequestReader(ReaderSettings(heads_of(MAX_HEAD), lambda path: 1_000_000, lambda: 0.0, lambda: "i"))
    reader.feed(CHUNKED)
    for number in range(20_000):
        reader.feed(b"2\r\n%02d\r\n" % (number % 100))
    assert len(reader._body) < 2_000
    reader.feed(b"0\r\n\r\n")
    (request,) = reader.ready
    assert isinstance(request, Request)
    assert type(request.body) is bytes
    assert request.body == b"".join(b"%02d" % (number % 100) for number in range(20_000))
