"""A record sink: each finished inference request as one JSON line of a file.

``telemetry.record-sinks: "jsonl_sink:JsonLines"`` with this file beside the configuration. The lines go to the file
that the environment names by ``REQUESTS_JSONL`` (``requests.jsonl`` unless it does).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from fd_router.telemetry.record import AttemptRecord, RequestRecord


class Line(msgspec.Struct):
    """What is written of a request. Milliseconds count from the first byte of its head."""

    endpoint: str
    status: int
    outcome: str
    stream: bool
    first_byte_ms: float
    total_ms: float
    attempts: list[dict[str, object]]


class JsonLines:
    """The sink: made once, when the router starts, and called on its event loop for every request."""

    def __init__(self) -> None:
        path = Path(os.environ.get("REQUESTS_JSONL", "requests.jsonl"))
        self._file = path.open("ab", buffering=0)

    def finished(self, record: RequestRecord) -> None:
        """Write one line."""
        if not record.inference:
            return
        attempts = [self._attempt(record, attempt) for attempt in record.all_attempts()]
        first = _milliseconds(record, record.first_byte_at) if record.first_byte_at else 0.0
        total = _milliseconds(record, record.finished_at)
        line = Line(record.endpoint, record.status, record.outcome, record.stream, first, total, attempts)
        self._file.write(msgspec.json.encode(line) + b"\n")

    def _attempt(self, record: RequestRecord, attempt: AttemptRecord) -> dict[str, object]:
        ended = _milliseconds(record, attempt.ended_at)
        return {"instances": attempt.instances, "outcome": attempt.outcome, "ended_ms": ended}


def _milliseconds(record: RequestRecord, moment: float) -> float:
    return round((moment - record.started) * 1e3, 3)
