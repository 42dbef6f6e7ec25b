"""One connection to an instance in the hand, with a listener that writes down what it hears."""

from __future__ import annotations

from fd_router.errors import UpstreamError
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.heads import ResponseHead
from fd_router.http.upstream_connection import UpstreamConnection
from fd_router.http.upstream_settings import UpstreamSettings
from fd_router.http.write_batcher import WriteBatcher
from tests.support.fake_transport import FakeLoop, FakeTransport
from tests.support.live import live_config

HEAD = b"POST /a HTTP/1.1\r\n\r\n"


OK = b"HTTP/1.1 200 OK\r\n"


SIZED = OK + b"A: b\r\nContent-Length: 4\r\n\r\nfine"


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class FakeListener:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heads: list[ResponseHead] = []
        self.body = b""
        self.ending: object = None
        self.stale = False

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        assert not self.heads
        assert self.ending is None
        self.heads.append(head)
        self.body += body

    def on_data(self, data: bytes) -> None:
        assert self.heads
        assert self.ending is None
        self.body += data

    def on_complete(self) -> None:
        assert self.ending is None
        self.ending = "complete"

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self.on_head(head, body)
        self.on_complete()

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        assert self.ending is None
        self.ending = (error.reason, error.retry, error.status)
        self.detail = error.detail
        self.stale = stale

    def on_bug(self, error: Exception) -> None:
        self.ending = error

    @property
    def head(self) -> ResponseHead:
        return self.heads[0]


class FakeOwner:
    url = "http://10.0.0.1:8000"

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_opened(self, connection: UpstreamConnection) -> None:
        self.events.append("opened")

    def on_reusable(self, connection: UpstreamConnection) -> None:
        assert connection.is_idle
        self.events.append("reusable")

    def on_closed(self, connection: UpstreamConnection) -> None:
        self.events.append("closed")


class Line:
    """One connection with everything around it."""

    def __init__(self, kind: type[UpstreamConnection] = UpstreamConnection) -> None:
        self.loop = FakeLoop()
        self.owner = FakeOwner()
        self.sweeper = DeadlineSweeper(self.loop, interval=0.8)  # type: ignore[arg-type]
        self.sweeper.start()
        live = live_config(proxy={"first_byte_timeout_secs": 30.0, "stall_timeout_secs": 10.0})
        settings = UpstreamSettings(WriteBatcher(self.loop), self.sweeper, live)  # type: ignore[arg-type]
        self.connection = kind(self.owner, settings)
        self.transport = FakeTransport(self.loop)
        self.transport.connect(self.connection)

    def send(self) -> FakeListener:
        listener = FakeListener()
        self.connection.send(listener, HEAD + b"body")
        self.loop.run_soon()
        return listener

    def receive(self, data: bytes, step: int = 0) -> None:
        self.transport.receive(data, step)


def exchange(data: bytes, step: int = 0, *, end: bool = False) -> tuple[Line, FakeListener]:
    """Send a request, receive ``data``, and perhaps lose the connection."""
    line = Line()
    listener = line.send()
    line.receive(data, step)
    if end:
        line.transport.lose()
    line.loop.run_soon()
    return line, listener
