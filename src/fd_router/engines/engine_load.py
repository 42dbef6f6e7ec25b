"""An engine's load: the few gauges that matter, found in its `/metrics` page without reading all of it."""

from __future__ import annotations

import math

import msgspec

RUNNING = (b"fastdeploy:num_requests_running", b"vllm:num_requests_running", b"sglang:num_running_reqs")
WAITING = (b"fastdeploy:num_requests_waiting", b"vllm:num_requests_waiting", b"sglang:num_queue_reqs")
FREE_BLOCKS = (b"available_gpu_block_num", b"fastdeploy:available_gpu_block_num")
"""The names of FastDeploy, vLLM and SGLang; the first that a page has is used."""

_SEPARATORS = (b" ", b"\t", b"{")


class EngineLoad(msgspec.Struct, frozen=True):
    """What an engine says of its load. ``free_blocks``: KV-cache blocks to be had, None when it doesn't say."""

    running: float
    waiting: float
    free_blocks: float | None = None


def read_engine_load(page: bytes) -> EngineLoad | None:
    """Find the gauges; None when the page has no load of a known engine. Several samples (one a rank) are added up."""
    running, waiting = _first(page, RUNNING), _first(page, WAITING)
    if running is None or waiting is None:
        return None
    return EngineLoad(running, waiting, _first(page, FREE_BLOCKS))


def _first(page: bytes, names: tuple[bytes, ...]) -> float | None:
    for name in names:
        if (total := _sum(page, name)) is not None:
            return total
    return None


def _sum(page: bytes, name: bytes) -> float | None:
    """Add up the samples of ``name``. ``bytes.find`` looks through a page of 100 KB in some microseconds."""
    total: float | None = None
    at = page.find(name)
    while at >= 0:
        end = at + len(name)
        if (at == 0 or page[at - 1 : at] == b"\n") and page[end : end + 1] in _SEPARATORS:
            line_end = page.find(b"\n", end)
            value = _value(page[end : line_end if line_end >= 0 else len(page)])
            if value is not None:
                total = (total or 0.0) + value
        at = page.find(name, end)
    return total


def _value(rest: bytes) -> float | None:
    """Read the value behind a sample's name: ``{labels} value [timestamp]``."""
    if rest.startswith(b"{"):
        rest = rest[rest.rfind(b"}") + 1 :]
    fields = rest.split()
    try:
        value = float(fields[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None
