"""Reads a trace, or a recording of a running router as one."""

from __future__ import annotations

from fd_router.devtools.recordings.arrivals import arrivals_of
from fd_router.devtools.recordings.reading import is_recording, read_recording
from fd_router.devtools.traces.trace import BLOCK_TOKENS, TraceRequest, read_trace


def read_any_trace(path: str, *, limit: int = 0, block_tokens: int = BLOCK_TOKENS) -> list[TraceRequest]:
    """Read the first ``limit`` requests (0: all), ordered by time. Raises TraceError, OSError when there is no file.

    ``block_tokens``: of a trace; a recording tells its own.
    """
    if is_recording(path):
        return arrivals_of(read_recording(path), limit=limit).requests
    return read_trace(path, limit=limit, block_tokens=block_tokens)
