"""Tracing: a live router's spans as a receiver gets them, and the context that instances are handed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fd_router.telemetry.record import AttemptRecord, RequestRecord
from fd_router.telemetry.tracing.context import TraceContext
from fd_router.telemetry.tracing.spans import SpanSink
from tests.support.live_router import LiveRouter
from tests.support.otlp_receiver import SpanReceiver, attributes_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAYS = f"traceparent: 00-{TRACE}-{PARENT}-01\r\n"
PROMPT = b'{"prompt": "a-prompt-that-nobody-may-read"}'


def live(folder: Path, receiver: SpanReceiver, percent: float = 0.0) -> LiveRouter:
    telemetry = {"traces_endpoint": receiver.url, "traces_sample_percent": percent}
    in_turn = {"policy": "round_robin"}
    return LiveRouter(folder, "log.level", "warn", {"telemetry": telemetry, "scheduler": in_turn})


def by_name(spans: Iterable[Any]) -> dict[str, Any]:
    return {span.name: span for span in spans}


async def test_a_traced_request_makes_spans_within_its_clients_trace(tmp_path: Path) -> None:
    with SpanReceiver() as receiver:
        async with live(tmp_path, receiver) as router:
            broken, good = await router.add(), await router.add()
            heads = [keep_heads(instance) for instance in (broken, good)]
            broken.answer = None
            for _ in range(2):  # one of them goes to the broken one first
                assert b" 200 OK" in await router.ask(PROMPT, headers=SAYS)
            await router.ask(PROMPT)  # not sampled
        requests = [span for span in receiver.spans if span.name == "POST /v1/completions"]
        assert len(requests) == 2
        assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
        assert {span.parent_span_id.hex() for span in requests} == {PARENT}
        assert receiver.services == {"fd-router"}
        told = attributes_of(requests[0])
        assert (told["http.response.status_code"], told["gen_ai.operation.name"]) == (200, "text_completion")
        request = next(span for span in requests if attributes_of(span)["fd_router.attempts"] == 2)
        parts = [span for span in receiver.spans if span.parent_span_id == request.span_id]
        assert [span.name for span in parts] == ["schedule", "text_completion", "schedule", "text_completion"]
        first, second = attributes_of(parts[1]), attributes_of(parts[3])
        assert (first["error.type"], first["server.port"]) == ("reset", broken.port)
        assert (second["server.port"], second["http.request.resend_count"]) == (good.port, 1)
        assert all(request.start_time_unix_nano <= one.start_time_unix_nano <= one.end_time_unix_nano for one in parts)
        assert all(one.end_time_unix_nano <= request.end_time_unix_nano for one in parts)
        handed = f"traceparent: 00-{TRACE}-{request.span_id.hex()}-01"
        assert any(handed in head for head in heads[1])
        assert all(head.lower().count("traceparent") <= 1 for head in heads[1])
        assert "nobody-may-read" not in str(receiver.spans)


def keep_heads(instance: Any) -> list[str]:
    """Return a list of the bodies' heads that the instance gets from now on."""
    heads: list[str] = []
    answer_to = instance.answer_to

    def noting(body: bytes) -> bytes | None:
        heads.append(instance.last_head)
        answer: bytes | None = answer_to(body)
        return answer

    instance.answer_to = noting
    return heads


async def test_a_share_is_traced_of_clients_that_say_nothing(tmp_path: Path) -> None:
    with SpanReceiver() as receiver:
        async with live(tmp_path, receiver, percent=100.0) as router:
            await router.add()
            await router.ask(PROMPT)
            await router.ask(PROMPT, headers=f"traceparent: 00-{TRACE}-{PARENT}-00\r\n")
        (request,) = [span for span in receiver.spans if span.name == "POST /v1/completions"]
        assert request.parent_span_id == b""
        assert request.trace_id.hex() != TRACE


def record(**more: Any) -> RequestRecord:
    made = RequestRecord("POST", "/v1/chat/completions", "c", 10.0, inference=True, status=200, attempts=1)
    made.trace = TraceContext(1, 2)
    made.attempt_started, made.sent_at, made.first_byte_at, made.finished_at = 12.0, 12.1, 12.5, 14.0
    for name, value in more.items():
        setattr(made, name, value)
    return made


def spans_of(*records: RequestRecord) -> list[Any]:
    with SpanReceiver() as receiver:
        sink = SpanSink(receiver.url, "r", lambda: 0.0)
        for each in records:
            sink.finished(each)
        sink.close()
    return receiver.spans


def seconds(span: Any) -> float:
    return round((span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, 3)


def test_a_pair_has_a_span_for_each_leg() -> None:
    pair = record(prefill="http://10.0.0.1:1", decode="http://10.0.0.2:2", prefill_at=12.4, model="m")
    spans = by_name(spans_of(pair))
    attempt = spans["chat m"]
    assert (seconds(spans["prefill"]), seconds(spans["decode"]), seconds(attempt)) == (0.3, 1.9, 2.0)
    assert spans["prefill"].parent_span_id == spans["decode"].parent_span_id == attempt.span_id
    assert attributes_of(spans["prefill"])["server.address"] == "10.0.0.1"
    assert [event.name for event in attempt.events] == ["first byte"]
    assert attributes_of(attempt)["gen_ai.request.model"] == "m"


def test_waiting_is_a_span_of_its_own() -> None:
    spans = by_name(spans_of(record(mixed="http://10.0.0.1:1", queued_at=10.5)))
    assert (seconds(spans["queue"]), seconds(spans["chat"])) == (1.5, 2.0)


def test_a_request_that_never_had_an_instance_failed_in_its_queue() -> None:
    failed = record(attempt_started=0.0, first_byte_at=0.0, queued_at=10.5, status=503, outcome="failed", attempts=0)
    spans = by_name(spans_of(failed, record(trace=None)))
    assert set(spans) == {"POST /v1/chat/completions", "queue"}
    assert attributes_of(spans["POST /v1/chat/completions"])["error.type"] == "503"
    assert seconds(spans["queue"]) == 3.5


@pytest.mark.parametrize("outcome", ["refused", "first_byte_timeout"])
def test_a_failed_attempt_is_an_error_of_its_kind(outcome: str) -> None:
    attempt = AttemptRecord(("http://10.0.0.1:1",), 11.0, 0.0, 0.0, 11.5, outcome, 0)
    spans = spans_of(record(mixed="http://10.0.0.2:2", failed_attempts=(attempt,), attempts=2, continued=1, key="k"))
    errors = [attributes_of(span)["error.type"] for span in spans if "error.type" in attributes_of(span)]
    assert errors == [outcome]
