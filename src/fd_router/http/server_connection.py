"""The clients' side: a connection's requests are answered one after the other, in the order they came."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import cast

import msgspec

from fd_router.bugs import tell_of_bug
from fd_router.errors import BadRequestError, HttpError
from fd_router.http.client_stream import StartRequest
from fd_router.http.closable_connection import ClosableConnection
from fd_router.http.deadlines import NEVER
from fd_router.http.event_stream import EventStream
from fd_router.http.handlers import HandlerTask
from fd_router.http.heads import response_bytes
from fd_router.http.http1_stream import Http10Stream, Http11Stream
from fd_router.http.messages import Request, RequestHead, Response
from fd_router.http.own_answers import endpoint_of, handler_or_answer
from fd_router.http.request_reader import BODY, HEAD, IDLE, NO_HEAD, RequestReader
from fd_router.http.server_context import ServerContext
from fd_router.http.write_batcher import Outlet
from fd_router.telemetry.record import RequestRecord

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ServerConnection(ClosableConnection):
    """One client's connection. The reader turns bytes into requests; they are answered one at a time."""

    __slots__ = (
        "_client", "_endpoint", "_is_extra", "_is_full", "_is_paused", "_outlet", "_record", "_serving", "_start",
        "_start_head", "_stream", "_version",
    )  # fmt: skip

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._state = context.state
        self._reader = RequestReader(context.reader)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._outlet: Outlet = None  # type: ignore[assignment]  # as above; for answers
        self._client = ""
        self._request = self._answer = self.proxied = None
        self._stream: Http11Stream | None = None  # what instances' answers go out on, once there was one
        self._start: StartRequest | None = None  # who has an instance answer requests with …
        self._start_head = NO_HEAD  # … this head …
        self._endpoint = ""  # … what metrics call their path …
        self._version = "1.1"  # … and the version of HTTP that they are in
        self._record: RequestRecord | None = None  # of a request that the router answers itself
        self._serving = False
        self._is_paused = False  # reading, because of too many requests in line
        self._is_full = False  # the client takes less than it is sent
        self._is_lingering = False
        self._is_extra = False  # there was no room for it: it is for the router's own endpoints
        self.deadline = NEVER

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._outlet = self._context.batcher.outlet(self._transport)
        peer = transport.get_extra_info("peername")
        self._client = peer[0].removeprefix("::ffff:") if peer else ""  # a handed-over socket may be of both families
        self._reader.peer = self._context.reader.forwarding.peer(
            self._client, transport.get_extra_info("sslcontext") is not None
        )
        self._is_extra = not self._state.admit(self)
        self._context.sweeper.add(self)
        self.deadline = self._state.idle_due
        if self._state.is_closing_idle:
            self.on_close_idle()

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if self._is_lingering:
            return
        was = reader.state
        reader.feed(data)
        if self._request is None and reader.ready:
            self._serve()
        if reader.state != IDLE or reader.ready:
            self._expect_more(was)

    def _expect_more(self, was: int) -> None:
        """Set the time for the rest of a request that is half here, if there is one; don't read too far ahead.

        ``was``: the reader's state before.
        """
        reader, context = self._reader, self._context
        if reader.is_refused:
            pass  # nothing more is expected; the time to linger is set
        elif reader.state == BODY:
            self._permit_body()
            options = self._state.options
            pause_end = context.sweeper.now + options.client_body_timeout_secs
            self.deadline = min(pause_end, reader.head_at + options.client_request_timeout_secs)
        elif reader.state == HEAD and (was != HEAD or self.deadline == NEVER):
            self.deadline = context.sweeper.now + self._state.options.client_head_timeout_secs
        if (reader.ready or reader.state == BODY) and not self._is_paused and self._is_ahead():
            self._is_paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._stream = None  # which holds this one, too: no cycles
        for step in (self._leave_server, self._reader.close, self._forget_request, self._tell_of_end):
            try:
                step()
            except Exception as error:  # noqa: BLE001  a bug with one step keeps nothing of the others
                self._tell_of_bug(error)

    def _leave_server(self) -> None:
        self._state.connections.discard(self)
        self._context.sweeper.discard(self)

    def _tell_of_end(self) -> None:
        answer, proxied = self._answer, self.proxied
        self._answer = self.proxied = None
        try:
            if answer is not None:
                answer.on_client_gone()
        except Exception as error:
            if proxied is None:
                raise
            proxied.on_bug(error)
        if self._record is not None:
            self._record.outcome = "client_gone"
            self._finish_record(499)

    def pause_writing(self) -> None:
        self._is_full = True
        if self._answer is not None:
            self._answer.on_write_paused()

    def resume_writing(self) -> None:
        self._is_full = False
        try:
            if self._answer is not None:
                self._answer.on_write_resumed()
            elif self._request is None:
                self._serve()  # what waited for room for its answer
        except Exception as error:  # noqa: BLE001  nobody would go on with the answer
            self._on_bug(error)

    def on_deadline(self) -> None:
        """Called by the sweeper: the client was too slow, or idle for too long."""
        reader = self._reader
        if self._request is not None:  # what follows it is late; it is not
            self.deadline = NEVER
        elif reader.state == IDLE or reader.is_refused or self._is_lingering or self._transport.is_closing():
            self._transport.abort()
        else:
            reader.refuse(
                BadRequestError(
                    f"Request timeout: {reader.why_late(self._state.options, self._context.sweeper.now)}", status=408
                )
            )
            self._serve()

    # serving

    def _serve(self) -> None:
        """Answer what is ready. A loop, since an answer may be over when its beginning returns."""
        if self._serving:
            return
        self._serving, ready = True, self._reader.ready
        try:
            while ready and self._request is None and not self._is_full and not self._transport.is_closing():
                self._begin()
        except Exception as error:  # noqa: BLE001  whoever called has to do with another request
            self._on_bug(error)
        finally:
            self._serving = False
        if self._is_paused:
            self._read_on()

    def _on_bug(self, error: Exception) -> None:
        """Tell the log, and close: what was taken for the request is given back as for a client that has left."""
        self._tell_of_bug(error)
        self._transport.abort()

    def _tell_of_bug(self, error: Exception) -> None:
        tell_of_bug("a connection failed", error)

    def _is_ahead(self) -> bool:
        """Whether the client has sent more than may wait: it is answered, or takes no answers."""
        return (self._request is not None or self._is_full) and self._reader.is_far_ahead

    def _read_on(self) -> None:
        """Read again, if all that waited is under way."""
        if not self._reader.ready and not self._is_ahead() and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def _begin(self) -> None:
        item = self._reader.ready.popleft()
        self.deadline = NEVER
        if isinstance(item, HttpError):
            self._refuse(item)
            return
        self._request = item
        head = item.head
        if head is not self._start_head:
            self._find_start(head)
        start, stream = self._start, self._stream
        if start is None or stream is None:
            self._control(item)
            return
        record = RequestRecord(
            head.method, self._endpoint, head.client, item.received_at, head.path, self._version, True
        )
        if self._is_extra and len(self._state.connections) > self._state.limiter.limit:
            self._record = record
            self.respond_error(self._state.limiter.refusal())
            return
        stream.request = item
        self._answer = self.proxied = proxied = start(item, stream, record)
        if self._state.is_draining:
            stream.on_drain()
        proxied.start()

    def _find_start(self, head: RequestHead) -> None:
        """Find who has an instance answer requests with this head, if anybody has, and what its answers go out on.

        Most requests of a connection share one head.
        """
        methods, path = self._context.inference.get(head.path), head.path
        if methods is None:  # seldom: a path with an id in it, or the router's own
            methods, path = self._context.match_pattern(path)
        self._start = methods.get(head.method) if methods is not None else None
        self._start_head, self._endpoint, self._version = head, path, head.version
        kind = Http10Stream if head.is_http_1_0 else Http11Stream
        if self._start is not None and type(self._stream) is not kind:
            self._stream = kind(self, self._outlet)

    def _control(self, request: Request) -> None:
        """Answer a request to the router itself."""
        head, context = request.head, self._context
        endpoint = endpoint_of(context, head.path)
        self._record = record = RequestRecord(head.method, endpoint, head.client, request.received_at, head.path)
        record.http_version = head.version
        answer = handler_or_answer(context, head)
        if isinstance(answer, Response):
            self._respond(answer)
        else:
            request = msgspec.structs.replace(request, client=self._client)
            self._answer = HandlerTask(answer, request, self._respond, context.log)

    def _refuse(self, error: HttpError) -> None:
        """Answer what could not be understood, or is too large or late, and close."""
        context, head = self._context, self._reader.refused_head
        begun = context.clock() if head is NO_HEAD else self._reader.head_at
        endpoint = endpoint_of(context, head.path)
        self._record = record = RequestRecord(head.method, endpoint, self._client, begun, head.path)
        record.http_version = head.version
        self._request = Request(head)
        self._respond(context.error_response(self._request, error))

    def _permit_body(self) -> None:
        """Tell a client that asked (``Expect: 100-continue``) to send its body, once its turn has come."""
        reader = self._reader
        if reader.wants_continue and self._request is None and not reader.ready and not reader.is_refused:
            reader.wants_continue = False
            self._outlet.write(_CONTINUE)

    def _respond(self, response: Response) -> None:
        """Send an answer made here: a whole one, or the head of one that goes on with events."""
        request = self._request
        goes_on = response.events is not None and request is not None and request.head.method != "HEAD"
        try:
            keep_alive = self._send(response, goes_on=goes_on)
        except Exception:
            self._transport.abort()  # nothing can be said to this client any more
            raise
        if goes_on and request is not None and response.events is not None:
            close = partial(self.complete, keep_alive=False)
            self._answer = events = EventStream(self._outlet.write, close, is_chunked=not request.head.is_http_1_0)
            events.start(response.events)
        else:
            self.complete(keep_alive=keep_alive)

    def _send(self, response: Response, *, goes_on: bool = False) -> bool:
        """Write an answer and its record. Returns whether the connection may serve again.

        ``goes_on``: events follow.
        """
        request = self._request
        assert request is not None
        head = request.head
        keep_alive = head.keep_alive and not self._state.is_draining
        data = response_bytes(
            response,
            request.request_id,
            now=time.time(),
            close=not keep_alive,
            keep_alive_1_0=head.is_http_1_0,
            head_only=head.method == "HEAD",
            cors=head.cors,
            goes_on=goes_on,
        )
        self._outlet.write(data)
        if self._record is not None:
            self._record.bytes_out = len(response.body)
            self._finish_record(response.status)
        return keep_alive

    def _finish_record(self, status: int) -> None:
        record, self._record = self._record, None
        if record is not None:
            record.status = status
            record.finished_at = self._context.clock()
            self._context.finish(record)

    def refuse(self, error: HttpError) -> None:
        """Answer with ``error`` whatever is sent, and close."""
        self._reader.refuse(error)
        self._serve()

    # what the stream of an instance's answer calls

    def respond_error(self, error: HttpError) -> None:
        """Send a whole error answer."""
        self._respond(self._context.error_response(self._request, error))

    def complete(self, keep_alive: bool) -> None:
        """The answer is written to its end: go on with the next request, or close."""
        self._answer = self.proxied = None
        request, self._request = self._request, None  # as in _forget_request, without a call
        state, reader = self._state, self._reader
        if request is not None:
            state.budget.held -= len(request.body)
        if not keep_alive:
            self._close_gently()
            return
        if reader.ready and not self._is_full:
            self._serve()
        elif reader.state == IDLE or self._is_full:
            self.deadline = state.idle_due
            if state.is_closing_idle:  # its client wasn't told, and may have sent the next request already
                self.on_close_idle()
        else:  # the next request is half here
            self.deadline = self._context.sweeper.now + state.options.client_head_timeout_secs
            self._permit_body()
            if self._is_paused:
                self._read_on()

    def on_drain(self) -> None:
        """The answer under way, if there is one, is the last."""
        if self._stream is not None and self.proxied is not None:
            self._stream.on_drain()
        elif isinstance(self._answer, EventStream):  # it would have no end, and nobody waits for one
            self._answer.end()

    def __repr__(self) -> str:
        doing = "answering" if self._request is not None else "lingering" if self._is_lingering else "reading"
        return f"<ServerConnection {self._client} {doing} {self._reader!r}>"
