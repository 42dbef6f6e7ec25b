"""The pair that served a request, or failed it, as header fields tell it."""

from __future__ import annotations

from fd_router.telemetry.record import RequestRecord


def pair_fields(record: RequestRecord) -> tuple[tuple[str, str], ...]:
    """Return the header fields that name the pair."""
    fields = (("X-Router-Prefill-URL", record.prefill), ("X-Router-Decode-URL", record.decode))
    return fields if record.prefill else fields[1:]


def pair_lines(record: RequestRecord) -> bytes:
    """Return them as lines of a head."""
    prefill, decode = record.prefill.encode(), record.decode.encode()
    if not prefill:
        return b"X-Router-Decode-URL: %b\r\n" % decode
    return b"X-Router-Prefill-URL: %b\r\nX-Router-Decode-URL: %b\r\n" % (prefill, decode)
