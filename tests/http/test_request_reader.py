"""What arrives on a client's connection, and what is read out of it: whole, byte by byte, with more behind it."""

from __future__ import annotations

from itertools import count

import pytest

from fd_router.config.live import LiveConfig
from fd_router.errors import HttpError
from fd_router.http.messages import Request
from fd_router.http.reader_settings import ReaderSettings
from fd_router.http.request_fields import ENGINE_ORDERS
from fd_router.http.request_reader import RequestReader
from tests.support.live import live_config

MAX_HEAD = 4096


MAX_BODY = 1000


def heads_of(most: int) -> LiveConfig:
    return live_config(proxy={"max_head_kb": most // 1024})


def make_reader(kind: type[RequestReader] = RequestReader) -> RequestReader:
    ids = count(1)
    return kind(ReaderSettings(heads_of(MAX_HEAD), lambda path: MAX_BODY, lambda: 7.0, lambda: f"made-{next(ids)}"))


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

    @pytest.mark.parametrize(("size", "step"), [(5_000, 1), (300_000, 100_000), (2_000_000, 65_536)])
    def test_a_body_of_many_or_large_parts_is_put_together_and_so_is_the_next_one(self, size: int, step: int) -> None:
        settings = ReaderSettings(heads_of(MAX_HEAD), lambda path: size, lambda: 7.0, lambda: "id")
        reader = RequestReader(settings)
        bodies = [bytes(range(256)) * (size // 256), b"small"]
        for body in bodies:
            for data in (HOST + b"Content-Length: %d\r\n\r\n" % len(body), body):
                for start in range(0, len(data), step):
                    reader.feed(data[start : start + step])
        assert [item.body for item in reader.ready if isinstance(item, Request)] == bodies
        assert settings.budget.held == sum(map(len, bodies))

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

    @pytest.mark.parametrize("name", sorted(ENGINE_ORDERS))
    def test_what_only_a_router_tells_an_engine_is_not_passed_on(self, name: bytes) -> None:
        request = only(HOST + b"%b: 1\r\nX-Own: 2\r\nContent-Length: 0\r\n\r\n" % name.title())
        assert request.head.forward == b"X-Own: 2\r\n"

    def test_several_connection_headers_all_count(self) -> None:
        head = b"Connection: a\r\nA: 1\r\nB: 1\r\nC: 1\r\nConnection: b\r\nContent-Length: 0\r\n\r\n"
        assert only(HOST + head).head.forward == b"C: 1\r\n"

    def test_request_id_and_trace_are_read(self) -> None:
        request = only(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\nTraceParent: 00-ab-cd\r\n\r\n")
        assert request.request_id == "mine"
        assert request.head.trace_id == "ab-cd"
        assert request.head.forward == b"TraceParent: 00-ab-cd\r\n"

    def test_a_session_is_read_and_goes_on(self) -> None:
        request = only(b"GET / HTTP/1.1\r\nHost: x\r\nX-Session-Id: s 1 \r\n\r\n")
        assert request.head.session == "s 1"
        assert request.head.forward == b"X-Session-Id: s 1\r\n"

    def test_fastdeploys_own_trace_wins(self) -> None:
        request = only(b"GET / HTTP/1.1\r\nHost: x\r\nTraceParent: 00-ab-cd\r\nX_BD_LOGID: bd\r\n\r\n")
        assert request.head.trace_id == "bd"

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
        data = (
            HOST
            + b"Content-Length: 1\r\n\r\n1"
            + CHUNKED
            + b"1\r\n2\r\n0\r\n\r\n"
            + b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n"
        )
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
        first, second = read(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
        )
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

        reader = RequestReader(ReaderSettings(heads_of(MAX_HEAD), lambda path: MAX_BODY, clock, str))
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
        assert (
            refusal(b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n" % target).status == 501
        )

    def test_http_2_is_refused(self) -> None:
        assert refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 400


@pytest.mark.parametrize("value", [b"005", b"   5", b"5   ", b"\t5\t"])
def test_odd_but_valid_lengths_mean_what_they_say(value: bytes) -> None:
    assert only(HOST + b"Content-Length: %b\r\n\r\nabcde" % value).body == b"abcde"
