"""The request line: what FastDeploy's log scripts read, then what only this router knows."""

from __future__ import annotations

from math import floor
from typing import Any

from fd_router.telemetry.duration import go_duration
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.sanitize import METHODS, shown_method, shown_path


def access_line(record: RequestRecord) -> str:
    """Make ``[POST] /v1/completions HTTP/1.1 200 2.798235ms 10.52.95.139``, then the extras, without tags or line end.

    The extras follow the client's address, because the scripts allow nothing between what they read:
    ``instance=`` (or ``prefill=`` and ``decode=``), ``ttft=``, ``bytes=``, ``attempts=``, ``continued=``, ``from=``,
    ``to=`` and ``at=`` where another instance went on with the stream, ``key=`` where API keys are needed, and
    ``outcome=`` unless the request was completed.
    """
    method, path, started, outcome = record.method, record.path, record.started, record.outcome
    if path != record.endpoint:  # else one of the router's own paths: nothing to escape
        path = shown_path(path or record.endpoint)
    if method not in METHODS:
        method = shown_method(method)
    seconds = record.finished_at - started
    duration = go_duration(seconds) if seconds > 0.0 else "0s"
    end = "" if outcome == "completed" else f" outcome={outcome}"
    if not record.inference:
        size = f" bytes={record.bytes_out}" if record.bytes_out else ""
        client = record.client or "-"
        return f"[{method}] {path} HTTP/{record.http_version} {record.status} {duration} {client}{size}{end}"
    chosen = f" instance={mixed}" if (mixed := record.mixed) else _pair(record)
    first = ""
    if record.first_byte_at:
        tenths = str(floor((record.first_byte_at - started) * 1e4 + 0.5))  # of a ms: a third of what ``:.1f`` costs
        first = f" ttft={tenths[:-1] or 0}.{tenths[-1]}ms"
    if record.key:
        end = f" key={record.key}{end}"
    if record.continued:
        end = f"{_continued(record)}{end}"
    return (  # one formatting: each piece put together before would be copied once more
        f"[{method}] {path} HTTP/{record.http_version} {record.status} {duration} {record.client or '-'}{chosen}"
        f"{first} bytes={record.bytes_out} attempts={record.attempts}{end}"
    )


def _pair(record: RequestRecord) -> str:
    prefill = f" prefill={record.prefill}" if record.prefill else ""
    return f"{prefill} decode={record.decode}" if record.decode else prefill


def _continued(record: RequestRecord) -> str:
    to = record.mixed or record.decode
    return f" continued={record.continued} from={record.continued_from} to={to} at={record.continued_at}"


def access_fields(record: RequestRecord) -> dict[str, Any]:
    """Give the request line's content as fields for a JSON log. Milliseconds are rounded to a microsecond."""
    fields: dict[str, Any] = {
        "method": shown_method(record.method),
        "path": shown_path(record.path or record.endpoint),
        "http_version": record.http_version,
        "status": record.status,
        "duration_ms": _milliseconds(record.started, record.finished_at),
        "client": record.client or "-",
        "outcome": record.outcome,
        "bytes": record.bytes_out,
    }
    if record.inference:
        instances = {"instance": record.mixed, "prefill": record.prefill, "decode": record.decode}
        fields.update((name, url) for name, url in instances.items() if url)
        if record.first_byte_at:
            fields["ttft_ms"] = _milliseconds(record.started, record.first_byte_at)
        fields["stream"] = record.stream
        fields["attempts"] = record.attempts
        if record.continued:
            fields["continued"] = record.continued
            fields["continued_from"], fields["continued_at"] = record.continued_from, record.continued_at
        if record.key:
            fields["key"] = record.key
    return fields


def _milliseconds(start: float, end: float) -> float:
    return round(max(0.0, end - start) * 1e3, 3)
