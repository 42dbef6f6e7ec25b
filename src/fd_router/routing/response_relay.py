"""The response relay: an answer on its way to the client as it came, and its end kept for who learns of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from fd_router.admission.api_key_gate import KeyGrant
from fd_router.bugs import tell_of_bug
from fd_router.http.client_stream import BodyOutlet, ClientStream
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.context import RoutingContext
from fd_router.routing.continuation.id_filter import IdFilter
from fd_router.routing.continuation.journal import RECENT, Journal
from fd_router.routing.usage import UsageTail
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.record import RequestRecord


class ResponseRelay:
    """What of a request's life concerns the bytes of its answer.

    It has no ``__init__``: ``RoutedRequest``, which has the rest of that life, sets all of it for every request.
    """

    __slots__ = (
        "_client", "_completion", "_context", "_grant", "_has_asked", "_journal", "_keep", "_outlet", "_recent",
        "_request", "_usage", "record",
    )  # fmt: skip

    record: RequestRecord
    _client: ClientStream
    _context: RoutingContext
    _request: Request
    _completion: Completion | None
    _grant: KeyGrant | None  # what counts against its API key
    _outlet: BodyOutlet  # who takes what the client is to get of the body; from its head on
    _recent: Sequence[bytes]  # what of the body was sent last, where no journal keeps that …
    _keep: Callable[[bytes], None]  # … and what adds to it; from the head on
    _usage: UsageTail | None  # for a policy that learns
    _journal: Journal | None  # of its stream, if that is one that can go on at another instance
    _has_asked: bool  # its instance was asked for token ids, which the client isn't to see

    @property
    def _tail(self) -> bytes:
        """The last bytes of the body sent."""
        return self._recent[-1] if self._recent else b""

    def _write_head(self, head: ResponseHead, body: bytes, extra: bytes = b"") -> None:
        """Pass the head on, with ``extra`` header lines and what came of the body."""
        record, client = self.record, self._client
        record.status = head.status
        if self._completion is not None and (decisions := self._completion.decisions):
            extra += b"x-router-decision: %b\r\n" % ", ".join(decisions.values()).encode("ascii", "replace")
        if not record.stream and len(body) == head.length:  # the answer is whole
            record.bytes_out += head.length
            self._recent = (body,)
            client.send_head(head, body, extra)
            self._outlet = client.outlet
        else:
            self._write_beginning(head, body, extra)
        if self._grant is not None and self._grant.counts_tokens:
            self._watch_usage(body)

    def _write_beginning(self, head: ResponseHead, body: bytes, extra: bytes) -> None:
        """Pass on the head of an answer that goes on, or is a stream."""
        record, client = self.record, self._client
        journal = self._open_journal(head) if record.stream else None
        ids = self._id_filter(head) if self._has_asked else None
        if journal is None:
            record.bytes_out += len(body)
            if len(body) == head.length:  # the answer is whole
                self._recent = (body,)
            else:
                self._recent = recent = deque((body,), RECENT)
                self._keep = recent.append
            if ids is not None:
                head, body = ids.head, ids.shown(body)
            client.send_head(head, body, extra)
            self._outlet = client.outlet if ids is None else ids.before(client.outlet)
        else:  # whole events only, and no more than that
            events = journal.begin(body)
            if ids is not None:
                events = ids.shown(events)
            client.send_head(head, events, extra)
            self._outlet = outlet = client.outlet if ids is None else ids.before(client.outlet)
            journal.write_to(outlet)

    def on_data(self, data: bytes) -> None:
        """Pass more of the body on, which no journal counts and keeps."""
        keep = self._keep
        self.record.bytes_out += len(data)
        keep(data)
        self._outlet.write(data)

    def _open_journal(self, head: ResponseHead) -> Journal | None:
        """Return what keeps the stream that begins with ``head``; None if it shall break with its instance."""
        raise NotImplementedError

    def _id_filter(self, head: ResponseHead) -> IdFilter:
        """Return who takes the body behind ``head``, and gives on what the client may see of it."""
        raise NotImplementedError

    # what a policy that learns, or an API key's limit, wants to know

    def _watch_usage(self, first: bytes) -> None:
        """Keep the end of the answer, of which ``first`` was passed on already."""
        self._usage = self._outlet = usage = UsageTail(first, self._outlet)
        if self._journal is not None:
            self._journal.write_to(usage)

    def _tell_usage(self, reservation: Reservation[Instance]) -> None:
        """Tell the policy what the whole answer says of the prompt, if it does."""
        if self._usage is None:
            return
        context, tail = self._context, self._usage.tail()
        try:
            if (usage := context.endpoint.find_usage(tail)) is not None:
                reservation.usage(*usage)
            if context.tells_totals and (total := context.endpoint.find_total_tokens(tail)) is not None:
                reservation.total_tokens(total)
        except Exception as error:  # noqa: BLE001  a third party's: the answer is whole all the same
            self._on_usage_bug(error)

    def _total_tokens(self) -> int | None:
        """Return the tokens of prompt and answer, if the answer tells them."""
        try:
            return self._context.endpoint.find_total_tokens(
                self._usage.tail() if self._usage is not None else self._tail
            )
        except Exception as error:  # noqa: BLE001  a third party's: what the request holds is given back all the same
            self._on_usage_bug(error)
            return None

    def _on_usage_bug(self, error: Exception) -> None:
        tell_of_bug(f"the endpoint {self._context.endpoint.path} failed to find an answer's usage", error)
