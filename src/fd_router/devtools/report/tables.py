"""Results as a person reads them (a table), and as a program does (JSON)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from fd_router.devtools.report.outcomes import Result, Summary


class Column(msgspec.Struct, frozen=True):
    """One figure of each result."""

    name: str
    unit: str = ""


COLUMNS = (
    Column("mean", "s"), Column("p50", "s"), Column("p90", "s"), Column("p99", "s"), Column("whole", "s"),
    Column("tpot", "ms"), Column("rate", "tokens/s"), Column("cached", "%"), Column("spread", "× mean"),
    Column("fair", "of 1"), Column("good", "%"), Column("requests"), Column("failed"),
)  # fmt: skip
_NO_LIMIT = 10_000
_PARTS = (0, 5, 10, len(COLUMNS))  # where all together are too wide: first times, then work, then the rest

LEGEND = """\
mean to p99: time to first token · whole: mean time of a whole request · tpot: for each token after the first
rate: generated tokens · cached: prompt tokens found in caches · fair: how alike the sessions' waits are (1: all alike)
spread: prompt tokens computed by the busiest instance over the mean of all (1: even)
good: requests within --ttft-limit-secs and --tpot-limit-ms"""


def tables_of(results: Sequence[Result], console: Console) -> list[Table]:
    """Make a table with a row for each result: one, or three where the ``console`` isn't wide enough for one."""
    whole = _table(results, 0, len(COLUMNS))
    if Measurement.get(console, console.options.update(width=_NO_LIMIT), whole).maximum <= console.width:
        return [whole]
    return [_table(results, first, end) for first, end in pairwise(_PARTS)]


def _table(results: Sequence[Result], first: int, end: int) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold")
    for column in COLUMNS[first:end]:
        table.add_column(f"{column.name}\n{column.unit}", justify="right", no_wrap=True)
    for result in results:
        summary = result.summary()
        cells = cells_of(summary)
        if summary.failures:
            cells[-1] = f"[red]{cells[-1]}[/]"
        table.add_row(escape(result.name), *cells[first:end])
    return table


def cells_of(summary: Summary) -> list[str]:
    """Return a row: a text for each of the ``COLUMNS``."""
    times = (
        summary.ttft_mean, summary.ttft_p50, summary.ttft_p90, summary.ttft_p99, summary.seconds_mean,
        summary.tpot_mean * 1000, summary.tokens_per_sec,
    )  # fmt: skip
    return [
        *map(number_text, times),
        _percent(summary.hit_rate),
        number_text(summary.spread),
        number_text(summary.fairness),
        _percent(summary.goodput),
        f"{summary.requests:,}",
        f"{summary.failures:,}",
    ]


def number_text(number: float) -> str:
    """Write three significant digits; a dash for what isn't known."""
    if math.isnan(number):
        return "–"
    decimals = 2 if number >= 1 else 3
    return f"{number:.{decimals}f}" if number < 100 else f"{number:.0f}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share * 100:.1f}"


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
