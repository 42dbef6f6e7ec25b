"""The replay's connections: callbacks only, so that one process can keep hundreds of streams a second."""

from __future__ import annotations

import asyncio

import httptools

from fd_router.devtools.replay.call import ReplayCall


class Connections:
    """Connections to one address; an idle one is used again, the last used first."""

    def __init__(self, host: str, port: int, head: bytes) -> None:
        self._host = host
        self._port = port
        self._head = head  # of every request, up to the length
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()

    def send(self, call: ReplayCall) -> None:
        """Send a request over an idle connection, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.begin(call):
                return
        self._send_anew(call)

    def give_up(self, call: ReplayCall, reason: str) -> None:
        """Fail a call; its connection, if it has one, can't be used again."""
        for connection in list(self._open):
            if connection.call is call:
                connection.abort(reason)
        call.fail(reason)

    def close(self) -> None:
        """Close all connections; the calls that are under way fail."""
        for task in self._opening:
            task.cancel()
        for connection in list(self._open):
            connection.abort("interrupted")

    # what connections call

    def request(self, body: bytes) -> bytes:
        """Return a whole request."""
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def opened(self, connection: Connection) -> None:
        """A connection is there."""
        self._open.add(connection)

    def idle(self, connection: Connection) -> None:
        """A connection's answer is whole, and the next request may come."""
        self._idle.append(connection)

    def closed(self, connection: Connection, unanswered: ReplayCall | None) -> None:
        """A connection is gone; the call that found it so, unanswered, gets another one."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if unanswered is not None:
            self._send_anew(unanswered)

    def _send_anew(self, call: ReplayCall) -> None:
        task = asyncio.get_running_loop().create_task(self._open_for(call))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_for(self, call: ReplayCall) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port)
        except OSError as error:
            call.fail(f"connect: {error.strerror or type(error).__name__}")
        except asyncio.CancelledError:
            call.fail("interrupted")
            raise
        else:
            if call.is_done:
                connection.abort("")
            elif not connection.begin(call):
                call.fail("connection lost")


class Connection(asyncio.Protocol):
    """One connection, with one call at a time."""

    def __init__(self, owner: Connections) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self.call: ReplayCall | None = None  # the one under way
        self._answers = 0
        self._is_answering = False
        self._may_stay = False

    def begin(self, call: ReplayCall) -> bool:
        """Send a call's request. Returns False when the connection is closing."""
        if self._transport is None or self._transport.is_closing():
            return False
        self.call = call
        self._is_answering = False
        self._transport.write(self._owner.request(call.body))
        return True

    def abort(self, reason: str) -> None:
        """Close; the call fails."""
        call, self.call = self.call, None
        if call is not None:
            call.fail(reason)
        if self._transport is not None:
            self._transport.abort()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the transport."""
        self._transport = transport
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._is_answering = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort("not HTTP/1.1")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """A call that had no byte of an answer on a used connection is sent again: the two crossed on their way."""
        call, self.call = self.call, None
        again = call if self._answers and not self._is_answering else None
        if call is not None and again is None:
            call.fail("connection lost")
        self._owner.closed(self, again)

    # the parser's callbacks

    def on_message_begin(self) -> None:
        """An answer begins."""
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._may_stay = self._parser.should_keep_alive()
        if self.call is not None:
            self.call.on_head(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self.call is not None:
            self.call.on_data(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        call, self.call = self.call, None
        self._answers += 1
        if call is not None:
            call.on_complete()
        if self._may_stay:
            self._owner.idle(self)
        elif self._transport is not None:
            self._transport.close()
