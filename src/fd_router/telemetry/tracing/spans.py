"""Spans by OpenTelemetry's SDK: made of a request's record when it is over, and sent by a thread of their own.

The names are those of its semantic conventions for HTTP and generative AI; what these have no word for begins with
``fd_router.``. Nothing of a request's body is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from fd_router import __version__
from fd_router.telemetry.record import AttemptRecord, RequestRecord
from fd_router.telemetry.tracing.context import TraceContext

OPERATIONS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/generate": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""``gen_ai.operation.name`` by endpoint."""

CLOSE_MILLISECONDS: Final = 3000
"""How long the last spans may take to be sent when the router stops."""

Attributes = dict[str, str | int | float | bool]


class _KnownIds(RandomIdGenerator):
    """Gives a request's own span the ids that its instance has been told of."""

    def __init__(self) -> None:
        self.next: TraceContext | None = None

    def generate_trace_id(self) -> int:
        """Called by the SDK for a span without a parent."""
        return self.next.trace_id if self.next is not None else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Called by the SDK."""
        known, self.next = self.next, None
        return known.span_id if known is not None else super().generate_span_id()


class SpanSink:
    """A record sink that makes spans: the request, its waiting, its scheduling, its attempts, their legs."""

    def __init__(self, endpoint: str, service: str, clock: Callable[[], float]) -> None:
        """``endpoint``: of an OTLP receiver, by HTTP. ``clock``: that of the records."""
        self._ids = _KnownIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # whether a request is traced was decided when it came
            resource=Resource.create({"service.name": service, "service.version": __version__}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=5)))
        self._tracer = self._provider.get_tracer("fd_router", __version__)
        self._clock = clock

    def close(self) -> None:
        """Send what is left; waits for that."""
        self._provider.force_flush(CLOSE_MILLISECONDS)
        self._provider.shutdown()

    def finished(self, record: RequestRecord) -> None:
        """Make the spans of a request that is over, if it is traced."""
        trace = record.trace
        if trace is None:
            return
        offset = time.time() - self._clock()
        self._ids.next = trace
        parent = None
        if trace.parent_id:
            there = SpanContext(trace.trace_id, trace.parent_id, is_remote=True, trace_flags=TraceFlags(0x01))
            parent = set_span_in_context(NonRecordingSpan(there))
        started = _nanoseconds(record.started, offset)
        span = self._tracer.start_span(
            f"{record.method} {record.endpoint}", parent, SpanKind.SERVER, _of_request(record), start_time=started
        )
        self._tell_parts(record, span, offset)
        if record.outcome == "failed" or record.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(record.finished_at, offset))

    def _tell_parts(self, record: RequestRecord, span: Span, offset: float) -> None:
        """Make the spans within the request's, one behind the other."""
        attempts = record.all_attempts()
        since, last = record.started, len(attempts) - 1
        if record.queued_at:
            until = next((one.started for one in attempts if one.started >= record.queued_at), record.finished_at)
            self._part("queue", span, record.queued_at, until, offset)
        for number, attempt in enumerate(attempts):
            begun = max(since, record.queued_at) if since < record.queued_at <= attempt.started else since
            self._part("schedule", span, begun, attempt.started, offset, {"fd_router.attempt": number + 1})
            self._attempt(record, attempt, span, offset, number + 1, prefill_at=record.prefill_at * (number == last))
            since = attempt.ended_at

    def _attempt(
        self, record: RequestRecord, attempt: AttemptRecord, span: Span, offset: float, number: int, prefill_at: float
    ) -> None:
        operation, model = OPERATIONS.get(record.endpoint, ""), record.model
        name = " ".join(part for part in (operation or "forward", model) if part)
        attributes = _of_attempt(record, attempt, number)
        made = self._part(name, span, attempt.started, attempt.ended_at, offset, attributes, kind=SpanKind.CLIENT)
        if attempt.first_byte_at:
            made.add_event("first byte", timestamp=_nanoseconds(attempt.first_byte_at, offset))
        if attempt.outcome not in {"completed", "client_gone"}:
            made.set_status(Status(StatusCode.ERROR, attempt.outcome))
        if len(attempt.instances) > 1 and attempt.sent_at:
            ends = prefill_at or attempt.first_byte_at or attempt.ended_at, attempt.ended_at
            for role, url, end in zip(("prefill", "decode"), attempt.instances, ends, strict=True):
                if url:
                    leg = self._part(role, made, attempt.sent_at, end, offset, _address(url), kind=SpanKind.CLIENT)
                    leg.end(_nanoseconds(end, offset))
        made.end(_nanoseconds(attempt.ended_at, offset))

    def _part(
        self,
        name: str,
        parent: Span,
        start: float,
        end: float,
        offset: float,
        attributes: Attributes | None = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        """Make a span within another; one that isn't internal is ended by who asked for it."""
        context = set_span_in_context(parent)
        span = self._tracer.start_span(name, context, kind, attributes, start_time=_nanoseconds(start, offset))
        if kind is SpanKind.INTERNAL:
            span.end(_nanoseconds(max(start, end), offset))
        return span


def _nanoseconds(at: float, offset: float) -> int:
    return int((at + offset) * 1e9)


def _address(url: str) -> Attributes:
    parts = urlsplit(url)
    return {"server.address": parts.hostname or "", "server.port": parts.port or 0}


def _of_request(record: RequestRecord) -> Attributes:
    attributes: Attributes = {
        "http.request.method": record.method,
        "http.route": record.endpoint,
        "http.response.status_code": record.status,
        "network.protocol.version": record.http_version,
        "fd_router.attempts": record.attempts,
        "fd_router.outcome": record.outcome,
        "fd_router.stream": record.stream,
    }
    if operation := OPERATIONS.get(record.endpoint):
        attributes["gen_ai.operation.name"] = operation
    if record.model:
        attributes["gen_ai.request.model"] = record.model
    if record.first_byte_at:
        attributes["fd_router.time_to_first_token"] = record.first_byte_at - record.started
    if record.key:
        attributes["fd_router.key"] = record.key
    if record.continued:
        attributes["fd_router.continued"] = record.continued
    if record.outcome == "failed" or record.status >= 500:
        attributes["error.type"] = str(record.status) if record.status >= 500 else record.outcome
    return attributes


def _of_attempt(record: RequestRecord, attempt: AttemptRecord, number: int) -> Attributes:
    attributes = _address(next((url for url in reversed(attempt.instances) if url), ""))
    attributes["fd_router.attempt"] = number
    if number > 1:
        attributes["http.request.resend_count"] = number - 1
    if operation := OPERATIONS.get(record.endpoint):
        attributes["gen_ai.operation.name"] = operation
    if record.model:
        attributes["gen_ai.request.model"] = record.model
    if attempt.status:
        attributes["http.response.status_code"] = attempt.status
    if attempt.outcome not in {"completed", "client_gone"}:
        attributes["error.type"] = attempt.outcome
    return attributes
