"""What the plots show of a result, thinned to what an eye can see."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from fd_router.devtools.report.outcomes import Result

POINTS = 200
BINS = 60

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Told apart by the colour-blind too: Okabe and Ito, "Color Universal Design", 2008."""

STYLES = ("-", "--", ":")
"""Of lines, when there are more of them than colours."""


class Series(msgspec.Struct, frozen=True):
    """One result as lines. Times in seconds."""

    name: str
    colour: str
    style: str
    waits: Sequence[float]  # times to first token, rising …
    shares: Sequence[float]  # … and the percentage of the requests that had it by then
    times: Sequence[float]  # since the trace's beginning …
    means: Sequence[float]  # … and the mean time to first token of the requests that came around then
    work: Sequence[float]  # of each instance, over the mean of all; falling


def series_of(results: Sequence[Result]) -> list[Series]:
    """Make the lines of each result, all with the same bins of time."""
    end = max((outcome.at for result in results for outcome in result.outcomes), default=0.0)
    return [_series(result, place, end) for place, result in enumerate(results)]


def _series(result: Result, number: int, end: float) -> Series:
    served = [outcome for outcome in result.outcomes if not outcome.error]
    waits = sorted(outcome.ttft for outcome in served)
    places = sorted({min(len(waits) - 1, round(step * (len(waits) - 1) / POINTS)) for step in range(POINTS + 1)})
    places = places if waits else []
    width = end / BINS or 1.0
    bins: dict[int, list[float]] = {}
    for outcome in served:
        bins.setdefault(min(BINS - 1, int(outcome.at / width)), []).append(outcome.ttft)
    filled = sorted(bins)
    return Series(
        name=result.name,
        colour=COLOURS[number % len(COLOURS)],
        style=STYLES[number // len(COLOURS) % len(STYLES)],
        waits=[waits[place] for place in places],
        shares=[(place + 1) * 100 / len(waits) for place in places],
        times=[(each + 0.5) * width for each in filled],
        means=[math.fsum(bins[each]) / len(bins[each]) for each in filled],
        work=_work(result),
    )


def _work(result: Result) -> list[float]:
    work = list(result.work.values())
    work += [0] * (result.instances - len(work))
    mean = sum(work) / len(work) if work else 0
    return [each / mean for each in work] if mean else []
