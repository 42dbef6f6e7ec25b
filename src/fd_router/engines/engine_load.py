"""An engine's load: the few gauges that matter, found in its `/metrics` page without reading all of it."""

from __future__ import annotations

import msgspec

from fd_router.engines.prometheus import sample_lines, value_of

RUNNING = (b"fastdeploy:num_requests_running", b"vllm:num_requests_running", b"sglang:num_running_reqs")
WAITING = (b"fastdeploy:num_requests_waiting", b"vllm:num_requests_waiting", b"sglang:num_queue_reqs")
FREE_BLOCKS = (b"available_gpu_block_num", b"fastdeploy:available_gpu_block_num")
"""The names of FastDeploy, vLLM and SGLang; the first that a page has is used."""


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
    """Add up the samples of ``name``."""
    total: float | None = None
    for line in sample_lines(page, name):
        if (value := value_of(line)) is not None:
            total = (total or 0.0) + value
    return total
