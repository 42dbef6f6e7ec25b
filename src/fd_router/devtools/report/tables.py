"""Results as a person reads them (a table), and as a program does (JSON)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from rich.table import Table

from fd_router.devtools.report.outcomes import Result, Summary

_COLUMNS = (
    "mean", "p50", "p90", "p99", "whole", "tpot", "tokens/s", "cached", "spread", "fair", "good", "requests", "failed",
)  # fmt: skip

LEGEND = """\
mean to p99: time to first token, s · whole: mean time of a whole request, s · tpot: ms for each token after the first
tokens/s: generated · cached: prompt tokens found in caches · fair: how alike the sessions' waits are (1: all alike)
spread: prompt tokens computed by the busiest instance over the mean of all (1: even)
good: requests within --ttft-limit-secs and --tpot-limit-ms"""


def table_of(results: Sequence[Result]) -> Table:
    """Make a table with a row for each result."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        table.add_row(result.name, *_cells(result.summary()))
    return table


def _cells(summary: Summary) -> list[str]:
    pace = number_text(summary.tpot_mean * 1000)
    times = (summary.ttft_mean, summary.ttft_p50, summary.ttft_p90, summary.ttft_p99, summary.seconds_mean)
    return [
        *map(number_text, times),
        pace,
        number_text(summary.tokens_per_sec),
        _percent(summary.hit_rate),
        number_text(summary.spread),
        number_text(summary.fairness),
        _percent(summary.goodput),
        str(summary.requests),
        f"[red]{summary.failures}[/]" if summary.failures else "0",
    ]


def number_text(number: float) -> str:
    """Write three significant digits; a dash for what isn't known."""
    if math.isnan(number):
        return "–"
    decimals = 2 if number >= 1 else 3
    return f"{number:.{decimals}f}" if number < 100 else f"{number:.0f}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.1%}"


def json_of(results: Sequence[Result], conditions: dict[str, object]) -> bytes:
    """Write conditions and results as JSON; times in seconds, what isn't known as null."""
    runs = [
        {
            "name": result.name,
            **msgspec.to_builtins(result.summary()),
            "instances": result.instances,
            "work_tokens": result.work,
            "took_secs": round(result.took_secs, 3),
        }
        for result in results
    ]
    return msgspec.json.format(msgspec.json.encode({"conditions": conditions, "results": runs}), indent=2) + b"\n"
