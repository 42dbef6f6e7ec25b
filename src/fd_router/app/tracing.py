"""The part of the composition root that has requests traced, where the options name a receiver of spans."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import msgspec

from fd_router.app.runtime import Runtime
from fd_router.config.telemetry import TelemetryConfig
from fd_router.errors import ConfigError
from fd_router.http.client_stream import ClientStream, ProxiedRequest, StartRequest
from fd_router.http.heads import header_lines, without
from fd_router.http.messages import Request
from fd_router.http.request_fields import first_value
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.record_sinks import GuardedSink
from fd_router.telemetry.tracing.context import Sampler

OPTION = "telemetry.traces-endpoint"
TRACEPARENT = b"traceparent"

Starts = Mapping[str, Mapping[str, StartRequest]]
"""path → method → how a request begins."""


class Tracing(msgspec.Struct, frozen=True):
    """``trace``: has requests that begin so traced; ``close``: sends the last spans, and waits for that."""

    trace: Callable[[Starts], Starts]
    close: Callable[[], None]


def spans_module(options: TelemetryConfig) -> Any:
    """Import what makes spans; None where no receiver is named. Raises ConfigError where the extra isn't installed."""
    if not options.traces_endpoint:
        return None
    try:
        return import_module("fd_router.telemetry.tracing.spans")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise ConfigError(
            f"{OPTION} needs OpenTelemetry's SDK and exporter: pip install 'opentelemetry-sdk>=1.27' "
            "'opentelemetry-exporter-otlp-proto-http>=1.27' (in a clone: pip install '.[otel]')"
        ) from None


def build_tracing(runtime: Runtime) -> Tracing:
    """Build it: nothing at all where no receiver is named. Raises ConfigError where the extra isn't installed."""
    options = runtime.live.current.telemetry
    spans = spans_module(options)
    if spans is None:
        return Tracing(_as_they_are, _nothing)
    sink = spans.SpanSink(options.traces_endpoint, runtime.live.current.server.name, runtime.clock)
    metrics, log = runtime.telemetry.metrics, runtime.log
    guarded = GuardedSink(
        OPTION, sink, count=partial(metrics.record_sink_failed, OPTION), log=log.error, clock=runtime.clock
    )
    runtime.telemetry.add(guarded)
    sampler = Sampler(options.traces_sample_percent / 100, random.Random())

    def trace(starts: Starts) -> Starts:
        return {
            path: {method: _traced(start, sampler) for method, start in methods.items()}
            for path, methods in starts.items()
        }

    return Tracing(trace, sink.close)


def _traced(start: StartRequest, sampler: Sampler) -> StartRequest:
    def begin(request: Request, stream: ClientStream, record: RequestRecord) -> ProxiedRequest:
        head = request.head
        context = sampler.begin(first_value(head.headers, TRACEPARENT))
        if context is None:  # a client's own header goes on as it came
            return start(request, stream, record)
        record.trace = context
        headers = [*without(head.headers, (TRACEPARENT,)), (TRACEPARENT, context.traceparent)]
        head = msgspec.structs.replace(head, headers=headers, forward=header_lines(headers))
        return start(msgspec.structs.replace(request, head=head), stream, record)

    return begin


def _as_they_are(starts: Starts) -> Starts:
    return starts


def _nothing() -> None:
    """Nothing is to be closed."""
