"""``fd-router replay``: a trace against a running router, a table and plots of how it did."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from fd_router.devtools.exit_codes import INTERRUPTED
from fd_router.devtools.recordings.any_trace import read_any_trace
from fd_router.devtools.replay.options import ReplayOptions
from fd_router.devtools.replay.replay import Replay, Target
from fd_router.devtools.report.outcomes import Result
from fd_router.devtools.router_address import RouterAddress
from fd_router.devtools.simulate.run import bar_of, progress_bar, show
from fd_router.devtools.traces.trace import TraceRequest, at_speed, capped
from fd_router.errors import ConfigError

_LATE_SECS = 0.1
"""A request that is sent so late makes the measurement doubtful."""


def run(options: ReplayOptions) -> int:
    """Replay, print, write; return the exit code: 1 when no request was served, 130 after Ctrl-C.

    Raises what ``simulate`` raises, and ReplayError.
    """
    router = RouterAddress.parse(options.router)
    target = Target(
        router,
        options.path,
        options.model,
        _headers(options),
        _extra(options.extra_body),
        options.prompts == "ids",
    )
    requests = read_any_trace(options.trace, limit=options.limit, block_tokens=options.block_tokens)
    requests = at_speed(capped(requests, options.max_output), options.speed)
    replay, result = uvloop.run(_replay(options, requests, target))
    late = replay.late_secs
    limits = options.limits
    result = msgspec.structs.replace(result, limits=limits)
    done, seconds = len(result.outcomes), requests[-1].at
    title = f"{Path(options.trace).name}: {done:,} of {len(requests):,} requests in {seconds:,.0f} s to {router.url}"
    conditions: dict[str, object] = {
        **msgspec.to_builtins(options),
        "header": [],  # there may be a key in one …
        "router": router.url,  # … and one in the address
        "requests": len(requests),
        "late_secs": round(late, 3),
    }
    show([result], title, conditions, as_json=options.json, out=options.out)
    if late > _LATE_SECS:
        sys.stderr.write(f"warning: requests were sent up to {late:.1f} s late: this machine is too slow for --speed\n")
    if replay.is_stopped:
        return INTERRUPTED
    return 0 if any(not outcome.error for outcome in result.outcomes) else 1


async def _replay(options: ReplayOptions, requests: list[TraceRequest], target: Target) -> tuple[Replay, Result]:
    replay = Replay(requests, target, timeout_secs=options.timeout_secs)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, replay.stop)
    name = options.name or target.router.url
    with progress_bar() as progress:
        result = await replay.run(name, bar_of(progress, name, len(requests)))
    return replay, result


def _headers(options: ReplayOptions) -> Mapping[str, str]:
    pairs = [header.partition(":") for header in options.header]
    return {name: value.strip() for name, _, value in pairs}


def _extra(text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(f'--extra-body: {error}; give a JSON object like {{"ignore_eos": true}}') from None
