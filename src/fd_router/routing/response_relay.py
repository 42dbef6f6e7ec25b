"""The answer on its way to the client: its head adapted, its bytes as they came, its end kept for who learns of it."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.admission.api_key_gate import KeyGrant
from fd_router.http.client_stream import ClientStream
from fd_router.http.dechunk import Dechunker
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.context import RoutingContext
from fd_router.routing.usage import UsageTail
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.record import RequestRecord


class ResponseRelay:
    """What of a request's life concerns the bytes of its answer.

    It has no ``__init__``: ``RoutedRequest``, which has the rest of that life, sets all of it for every request.
    """

    __slots__ = (
        "_client", "_completion", "_context", "_grant", "_is_dechunking", "_is_delimited", "_keep_alive", "_relay",
        "_request", "_tail", "_usage", "record",
    )  # fmt: skip

    record: RequestRecord
    _client: ClientStream
    _context: RoutingContext
    _request: Request
    _completion: Completion | None
    _grant: KeyGrant | None  # what counts against its API key
    _relay: Callable[[bytes], None]  # who takes what comes of the body
    _keep_alive: bool
    _is_delimited: bool  # whether the client can tell a whole answer from a broken one
    _is_dechunking: bool
    _tail: bytes  # the last bytes of the body sent
    _usage: UsageTail | None  # for a policy that learns

    def _write_head(self, head: ResponseHead, body: bytes, extra: bytes = b"") -> None:
        """Pass the head on, with ``extra`` header lines and what came of the body."""
        request, record = self._request, self.record
        record.status = head.status
        self._is_delimited = is_delimited = head.is_delimited
        framing, connection = head.framing, b""
        if request.head.is_http_1_0:
            framing, connection = self._adapt_to_http_1_0(head)
        elif not (is_delimited and self._keep_alive):
            self._keep_alive = False
            connection = b"connection: close\r\n"
        if self._completion is not None and (decisions := self._completion.decisions):
            extra += b"x-router-decision: %b\r\n" % ", ".join(decisions.values()).encode("ascii", "replace")
        start = b"%b%b%b%bx-request-id: %b\r\n\r\n" % (
            head.forward, framing, connection, extra, request.request_id.encode("latin-1"),
        )  # fmt: skip
        record.bytes_out += len(body)
        self._tail = body
        if self._is_dechunking:
            self._client.write(start)
            self._relay(body)
        else:  # one write, since each is a system call
            self._client.write(start + body)
        if self._grant is not None and self._grant.counts_tokens:
            self._watch_usage(body)

    def _write_data(self, data: bytes) -> None:
        """Pass more of the body on."""
        self.record.bytes_out += len(data)
        self._tail = data
        self._relay(data)

    def _adapt_to_http_1_0(self, head: ResponseHead) -> tuple[bytes, bytes]:
        """Prepare for a client that knows no chunks. Returns the header lines for framing and connection."""
        if head.chunked:
            self._is_dechunking = True
            self._relay = Dechunker(self._client.write).feed
        if head.length < 0:
            self._keep_alive = self._is_delimited = False
            return b"", b""
        return head.framing, b"connection: keep-alive\r\n" if self._keep_alive else b""

    # what a policy that learns, or an API key's limit, wants to know

    def _watch_usage(self, first: bytes) -> None:
        """Keep the end of the answer, of which ``first`` was passed on already."""
        self._usage = UsageTail(first, self._relay)
        self._relay = self._usage.feed

    def _tell_usage(self, decision: Reservation[Instance]) -> None:
        """Tell the policy what the whole answer says of the prompt, if it does."""
        if self._usage is not None and (usage := self._context.endpoint.find_usage(self._usage.tail())) is not None:
            decision.usage(*usage)
