"""What became of a trace's requests, simulated or sent, and the figures that sum it up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One request: when it came (seconds since the first), and what it got. Seconds from its sending; NaN: never."""

    at: float
    input_tokens: int
    instance: str = ""  # who served it, as far as known
    ttft: float = math.nan  # to the first token
    seconds: float = math.nan  # to the end of the answer
    cached_tokens: int | None = None  # of the prompt, as the engine tells
    error: str = ""  # what went wrong, in words that are few enough to count


class Summary(msgspec.Struct, frozen=True):
    """A whole trace in one row. Times in seconds; NaN where there is nothing to go by."""

    requests: int
    failures: int
    ttft_mean: float
    ttft_p50: float
    ttft_p90: float
    ttft_p99: float
    seconds_mean: float
    hit_rate: float  # cached prompt tokens of all prompt tokens, where the engines tell
    spread: float  # prompt tokens computed by the busiest instance, over the mean of all: 1 is even
    errors: dict[str, int]


class Result(msgspec.Struct, frozen=True):
    """All that is known of one policy's (or router's) run."""

    name: str
    outcomes: Sequence[Outcome]
    instances: int  # in the fleet; 0 when not known
    took_secs: float  # of our own time

    @property
    def work(self) -> dict[str, int]:
        """Prompt tokens that each instance had to compute, the busiest first."""
        work: dict[str, int] = {}
        for each in self.outcomes:
            if each.instance and not each.error:
                work[each.instance] = work.get(each.instance, 0) + each.input_tokens - (each.cached_tokens or 0)
        return dict(sorted(work.items(), key=lambda pair: -pair[1]))

    def summary(self) -> Summary:
        """Sum it up."""
        served = [each for each in self.outcomes if not each.error]
        waits = sorted(each.ttft for each in served)
        told = [each for each in served if each.cached_tokens is not None]
        errors: dict[str, int] = {}
        for each in self.outcomes:
            if each.error:
                errors[each.error] = errors.get(each.error, 0) + 1
        return Summary(
            requests=len(self.outcomes),
            failures=len(self.outcomes) - len(served),
            ttft_mean=_ratio(math.fsum(waits), len(waits)),
            ttft_p50=percentile(waits, 50),
            ttft_p90=percentile(waits, 90),
            ttft_p99=percentile(waits, 99),
            seconds_mean=_ratio(math.fsum(each.seconds for each in served), len(served)),
            hit_rate=_ratio(sum(each.cached_tokens or 0 for each in told), sum(each.input_tokens for each in told)),
            spread=self._spread(),
            errors=errors,
        )

    def _spread(self) -> float:
        work = self.work
        total = sum(work.values())
        return _ratio(max(work.values(), default=0) * (self.instances or len(work)), total)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the least of the ``ordered`` values that ``percent`` of them don't exceed; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
