"""One connection to an instance: a request goes out, the answer's bytes are handed on as they came.

``AnswerReader`` checks the answer's syntax and framing; the body isn't decoded. What is handed on is the received
bytes, so a chunked stream keeps its framing and costs one parse and one write a read. The head is held back until the
first of the body is there, or its end (``http.body_start``).

An instance mostly sends the same head again, but for the body's length or, of a stream, the date. Such a one has been
parsed already (``_receive_first``, ``AnswerReader.feed_first``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from fd_router.errors import Retry, UpstreamError
from fd_router.http.answer_end import ENOUGH, last_bytes, strays_behind_chunks
from fd_router.http.answer_reader import MAX_HEAD, AnswerReader, after_interim_heads, from_final_head
from fd_router.http.body_start import has_begun, joined
from fd_router.http.deadlines import NEVER
from fd_router.http.heads import END_OF_HEAD, ResponseHead
from fd_router.http.keepalive import keep_alive
from fd_router.http.known_head import KnownHead
from fd_router.http.tls_end import was_cut
from fd_router.http.unsent import unsent_bytes
from fd_router.http.upstream_contract import NOBODY, BodyTaker, Listener, Owner
from fd_router.http.upstream_settings import UpstreamSettings
from fd_router.http.write_batcher import Buffers, Outlet


class _EachRead(asyncio.Protocol):
    """What each read of a stream touches, side by side, as in ``routing.continuation.journal``, and nothing more.

    To load an attribute is to count a reference in the object that it holds, which comes from far away as well.
    """

    __slots__ = ("_in_chunks", "_last", "_parser", "_settings", "_taker", "deadline")


class UpstreamConnection(_EachRead):
    """A connection to one instance, serving one request at a time.

    States: idle (no listener) → waiting (sent, no byte yet) → head → body → idle again, or closed.
    """

    __slots__ = (
        "_head_bytes", "_in_body", "_is_over", "_known", "_left", "_listener", "_outlet", "_owner", "_paused",
        "_reader", "_sent_in", "_time_limit", "_unsent", "began_at", "is_reused", "transport",
    )  # fmt: skip

    def __init__(self, owner: Owner[UpstreamConnection], settings: UpstreamSettings) -> None:
        self._owner = owner
        self._settings = settings
        self._reader = AnswerReader(settings.inspected, self._on_answer_complete)
        self.transport: asyncio.Transport | None = None
        """While it is there; the pool looks whether it is closing. Read only."""
        self._outlet: Outlet | None = None  # while there is a transport
        self._listener: Listener | None = None
        self._taker: BodyTaker = NOBODY  # of more of the body, while there is a listener
        self._known: KnownHead[ResponseHead] | None = None  # the last head, if it may be used again
        self.is_reused = False
        """Whether it has served before: its instance may have closed it meanwhile."""
        self.began_at = 0.0
        """When the body under way began, in the sweeper's seconds."""
        self._is_over = False  # it was there, or will never be
        self._paused = False
        self._time_limit = 0.0
        self._sent_in = 0  # the batcher's turn in which the request was given to it
        self._unsent: Callable[[], int] = int  # (none) bytes of the request that aren't on their way yet
        self._last = b""  # of a body in chunks, so far
        self._left = 0  # bytes to come of a body whose length was told
        self.deadline = NEVER
        self._head_bytes = b""  # of a head that came in pieces, or whose body has not begun
        self._in_body = False
        self._in_chunks = False  # in a body of chunks, which isn't complete, …
        self._parser = self._reader.parser  # … and whose parser is this

    # what the listener calls

    def send(self, listener: Listener, message: bytes | Buffers, time_limit: float = 0.0) -> None:
        """Send a request. The listener hears of the answer, whose first byte may take ``time_limit`` (0: as usual)."""
        settings = self._settings
        self._listener = listener
        self._time_limit = time_limit or settings.first_byte_timeout
        self.deadline = settings.sweeper.now + time_limit if time_limit else settings.first_byte_due
        self._sent_in = settings.batcher.turn
        outlet = self._outlet
        if outlet is None:
            self._lost(None, listener)
        elif isinstance(message, bytes):
            outlet.write(message)
        else:
            outlet.write_buffers(message)

    def deliver_to(self, taker: BodyTaker) -> None:
        """Give the rest of the body under way to ``taker``, and no longer to the listener."""
        self._taker = taker

    def pause(self) -> None:
        """Stop reading: the client is slower than the instance."""
        if not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused and self.transport is not None:
            self._paused = False
            if self._in_body:  # else the time limit for its first byte goes on
                self.deadline = self._settings.stall_due
            self.transport.resume_reading()

    def cancel(self) -> None:
        """Forget the listener and close at once, so that the instance stops working for nobody."""
        self._listener, self._taker, self._in_chunks = None, NOBODY, False
        self.close()

    def close(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def abandon(self) -> None:
        """Nobody waits for it to be opened any more. If it is there all the same, or comes to be later, it is closed.

        uvloop, which closes it too, tells nobody of its end.
        """
        if self._is_over:
            return
        self._is_over = True
        if self.transport is None:
            self._reader.close()
        else:
            self.transport.abort()
            self.connection_lost(None)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request to send."""
        return self._listener is None and self.transport is not None and not self.transport.is_closing()

    @property
    def delivered_at(self) -> float:
        """When bytes of the body under way came last, in the sweeper's seconds; 0.0: none is read now.

        Each read moves the deadline, so that nothing more has to be noted for it.
        """
        if not self._in_body or self._listener is None or self._paused:
            return 0.0
        return self.deadline - self._settings.stall_timeout

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._is_over:
            cast("asyncio.Transport", transport).abort()
            return
        self.transport = cast("asyncio.Transport", transport)
        self._outlet = self._settings.batcher.outlet(self.transport)
        self._unsent = unsent_bytes(self.transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            keep_alive(sock, self._settings.options.instance_keepalive_secs)
        self._settings.sweeper.add(self)
        self._owner.on_opened(self)

    def data_received(self, data: bytes) -> None:
        taker = self._taker
        try:
            if self._in_chunks:  # most reads are of this kind
                self._parser.feed_data(data)
                if self._in_chunks:
                    self.deadline = self._settings.stall_due
                    self._last = data if len(data) >= ENOUGH else last_bytes(self._last, data)
                    taker.on_data(data)
                    return
            elif (listener := self._listener) is None:
                self.close()  # an instance that speaks unasked is not to be trusted with a next request
                return
            else:
                taker, reader = listener, self._reader
                if reader.begun:
                    reader.parser.feed_data(data)
                elif self._receive_first(data, listener):
                    return
                else:
                    reader.feed_first(data)
            self._receive(data)
        except Exception as error:  # noqa: BLE001  whoever waits for the answer must hear of it
            self._on_error(error, taker)

    def connection_lost(self, exc: Exception | None) -> None:
        if (transport := self.transport) is None:  # abandoned
            return
        self._is_over = True
        self.transport, self._outlet, self._unsent = None, None, int
        listener = self._listener
        try:
            self._settings.sweeper.discard(self)
            if listener is not None:
                self._lost(exc, listener, transport)
        except Exception as error:
            if listener is None:
                raise
            listener.on_bug(error)
        finally:
            self._reader.close()
            self._owner.on_closed(self)

    def on_deadline(self) -> None:
        """Called by the sweeper: idle for too long, or the instance (or the client it waits for) stalled."""
        settings = self._settings
        if self._listener is None:
            self.close()
        elif self._paused:
            self._fail("stalled", f"the client took nothing for {settings.stall_timeout:g} s")
        elif not self._in_body:
            self._fail("first_byte_timeout", f"no answer within {self._time_limit:g} s", status=504)
        else:
            self._fail("stalled", f"nothing came for {settings.stall_timeout:g} s in mid-answer", status=504)

    # steps

    def _on_error(self, error: Exception, taker: BodyTaker) -> None:
        """Tell whoever waits for the answer of what the parser, or a step of ours, raised."""
        is_ours = isinstance(error, httptools.HttpParserCallbackError)  # a bug, as whatever else isn't the parser's
        if isinstance(error, httptools.HttpParserUpgrade):  # which would say where in the read
            self._fail("protocol", "the answer leaves HTTP/1.1 for another protocol, which nobody asked for")
        elif isinstance(error, httptools.HttpParserError) and not is_ours:
            self._fail("protocol", f"the answer isn't valid HTTP/1.1 ({error})")
        else:
            self.cancel()
            taker.on_bug(error)

    def _on_answer_complete(self) -> None:
        """Called by the reader."""
        self._in_chunks = False

    def _receive(self, data: bytes) -> None:
        """Take what the parser has found nothing wrong with."""
        listener, reader = self._listener, self._reader
        assert listener is not None  # while an answer comes
        if reader.begun > 1:
            self._fail("protocol", "the answer is longer than it says")
            return
        head = reader.head
        if not self._in_body:
            self._receive_head(data, listener)
        else:
            self.deadline = self._settings.stall_due
            if head is not None and (own := self._own(data, head)):
                self._taker.on_data(own)
        if reader.is_complete and self._listener is listener and (head := reader.head) is not None:
            self._finish(listener, head.keep_alive and not reader.unfit)

    def _own(self, data: bytes, head: ResponseHead) -> bytes:
        """Return what of ``data`` is the answer's: all, but for line ends behind it. After those it isn't kept."""
        reader = self._reader
        if head.chunked:  # and complete
            strays = strays_behind_chunks(self._last, data)
        else:
            self._left -= len(data)
            strays = -self._left if reader.is_complete and head.is_delimited else 0
        if strays <= 0:
            return data
        reader.unfit = "there were line ends behind the answer"
        return data[:-strays]

    def _receive_first(self, data: bytes, listener: Listener) -> bool:
        """Take a whole answer whose head is the known one. The parser, between two messages, needn't see it.

        Returns False for what else may be the beginning of an answer.
        """
        if self._sent_in == self._settings.batcher.turn:  # what it answers isn't this request
            self._fail("reset", "it spoke before it was asked", Retry.ALWAYS, stale=self.is_reused)
            return True
        known = self._known
        if known is None or (body := known.body_of(data)) is None:
            return False
        unsent = self._unsent
        if self._paused or unsent():
            self._go_free(True)
        else:  # nearly always
            self._listener = None
            self.is_reused = True
            self._owner.on_reusable(self)
        head = known.meaning
        listener.on_whole(head if len(body) == head.length else head.with_length(len(body)), body)
        return True

    def _receive_head(self, data: bytes, listener: Listener) -> None:
        reader, before = self._reader, self._head_bytes
        if before:
            data = before + data
        head = reader.head
        if head is None:
            self._head_bytes = after_interim_heads(data)
            if len(self._head_bytes) > MAX_HEAD:
                self._fail("protocol", f"the answer's head is longer than {MAX_HEAD} bytes")
            return
        at = reader.head_size
        if not at:  # else it was seen before
            data = from_final_head(data, head)
            at = data.index(END_OF_HEAD) + 4
            if why := reader.why_unfit(head, data, at):
                self._fail("protocol", why)
                return
        body = data[at:]
        if reader.is_complete or has_begun(head, body):
            self._begin_body(head, data[:at], body, listener)
        else:
            self._head_bytes = data

    def _begin_body(self, head: ResponseHead, head_bytes: bytes, body: bytes, listener: Listener) -> None:
        """Hand ``head`` on, of which ``head_bytes`` tell, with the beginning of the body, or all of it."""
        reader, settings, came_in_pieces = self._reader, self._settings, self._head_bytes
        self.began_at, self.deadline = settings.sweeper.now, settings.stall_due
        self._head_bytes, self._in_body = b"", True
        self._taker = listener
        if came_in_pieces and head.chunked:
            body = joined(body)
        if head.chunked and not reader.is_complete:  # a stream
            self._last, self._in_chunks, self._parser = body, True, reader.parser
            if not reader.head_size and head.keep_alive:
                reader.learn(head_bytes, head)
        else:
            self._left, self._last = max(head.length, 0), b""
            if not came_in_pieces and reader.is_complete and head.keep_alive and head.length >= 0:
                self._known = settings.heads.learn(head_bytes + body, head.length, head)
            body = self._own(body, head)
        listener.on_head(head, body)

    def _finish(self, listener: Listener, reusable: bool) -> None:
        self._reader.begin()
        self._head_bytes, self._in_body, self._taker = b"", False, NOBODY
        self._go_free(reusable)
        listener.on_complete()

    def _go_free(self, reusable: bool) -> None:
        """The answer is complete, and the connection another's to use, if it can be used again.

        It can't if its own request isn't all on its way: the rest would be read as the beginning of the next one.
        """
        self._listener = None
        self.is_reused = True
        if self._paused:
            self.resume()
        self.deadline = NEVER
        transport = self.transport
        if not reusable or self._unsent():
            self.close()
        elif transport is not None and not transport.is_closing():
            self._owner.on_reusable(self)

    def _lost(self, exc: Exception | None, listener: Listener, lost: asyncio.Transport | None = None) -> None:
        why = (getattr(exc, "strerror", None) or str(exc)).lower() if exc else "the connection was closed"
        reader = self._reader
        if not reader.begun:
            self._fail("reset", f"{why} before an answer", Retry.ALWAYS, stale=self.is_reused)
        elif exc is None and (head := reader.head) is not None and not (head.is_delimited or (lost and was_cut(lost))):
            try:
                self._end_undelimited(head, listener)
            except Exception as error:  # noqa: BLE001  as in data_received
                listener.on_bug(error)
        elif self._in_body:
            self._fail("cut_off", f"{why} in mid-answer")
        else:
            self._fail("reset", f"{why} before the first of the answer's body", Retry.ALWAYS)

    def _end_undelimited(self, head: ResponseHead, listener: Listener) -> None:
        """Take the end of the connection for the answer's, whose body may be empty."""
        if not self._in_body:
            self._in_body = True
            listener.on_head(head, self._head_bytes.partition(END_OF_HEAD)[2])
        if self._listener is listener:
            self._finish(listener, reusable=False)

    def _fail(
        self, reason: str, detail: str, retry: Retry = Retry.NEVER, *, status: int | None = None, stale: bool = False
    ) -> None:
        listener = self._listener
        try:
            self.cancel()
            if listener is not None:
                failure = UpstreamError(reason, detail, instance=self._owner.url, retry=retry, status=status)
                listener.on_failed(failure, stale=stale)
        except Exception as error:
            if listener is None:
                raise
            listener.on_bug(error)

    def __repr__(self) -> str:
        state = "closed" if self.transport is None else "idle"
        if self._listener is not None:
            state = "body" if self._in_body else "head" if self._reader.begun else "waiting"
        return f"<UpstreamConnection {self._owner.url} {state}{' again' if self.is_reused else ''}>"
