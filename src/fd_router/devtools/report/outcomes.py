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
    output_tokens: int = 0  # generated; 0 when not known
    session: str = ""  # whose request it was, if known
    error: str = ""  # what went wrong, in words that are few enough to count

    @property
    def tpot(self) -> float:
        """Seconds for each token after the first; NaN for an answer of one token, or of an unknown number."""
        return (self.seconds - self.ttft) / (self.output_tokens - 1) if self.output_tokens > 1 else math.nan


class Limits(msgspec.Struct, frozen=True):
    """What a request must keep to count as good: seconds to the first token, and for each token after it."""

    ttft: float = math.inf
    tpot: float = math.inf

    def are_kept(self, outcome: Outcome) -> bool:
        """Whether a request was served within them. An answer of one token has no time between tokens."""
        tpot = outcome.tpot
        return not outcome.error and outcome.ttft <= self.ttft and (math.isnan(tpot) or tpot <= self.tpot)


class Summary(msgspec.Struct, frozen=True):
    """A whole trace in one row. Times in seconds; NaN where there is nothing to go by."""

    requests: int
    failures: int
    ttft_mean: float
    ttft_p50: float
    ttft_p90: float
    ttft_p99: float
    seconds_mean: float
    seconds_p99: float
    tpot_mean: float  # of the requests' means
    tpot_p99: float
    goodput: float  # share of all requests that were served within the limits
    tokens_per_sec: float  # generated, from the first arrival to the last end
    fairness: float  # Jain's index of the sessions' mean times to first token: 1 when all wait alike, 1/n at worst
    hit_rate: float  # cached prompt tokens of all prompt tokens, where the engines tell
    spread: float  # prompt tokens computed by the busiest instance, over the mean of all: 1 is even
    errors: dict[str, int]


class Result(msgspec.Struct, frozen=True):
    """All that is known of one policy's (or router's) run."""

    name: str
    outcomes: Sequence[Outcome]
    instances: int  # in the fleet; 0 when not known
    took_secs: float  # of our own time
    limits: Limits = Limits()

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
        whole = sorted(each.seconds for each in served)
        paces = sorted(tpot for each in served if not math.isnan(tpot := each.tpot))
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
            seconds_mean=_ratio(math.fsum(whole), len(served)),
            seconds_p99=percentile(whole, 99),
            tpot_mean=_ratio(math.fsum(paces), len(paces)),
            tpot_p99=percentile(paces, 99),
            goodput=_ratio(sum(map(self.limits.are_kept, self.outcomes)), len(self.outcomes)),
            tokens_per_sec=_tokens_per_sec(served),
            fairness=_fairness(served),
            hit_rate=_ratio(sum(each.cached_tokens or 0 for each in told), sum(each.input_tokens for each in told)),
            spread=self._spread(),
            errors=errors,
        )

    def _spread(self) -> float:
        work = self.work
        total = sum(work.values())
        return _ratio(max(work.values(), default=0) * (self.instances or len(work)), total)


def _tokens_per_sec(served: Sequence[Outcome]) -> float:
    ends = [each.at + each.seconds for each in served]
    return (
        _ratio(sum(each.output_tokens for each in served), max(ends) - min(each.at for each in served)) if ends else 0
    )


def _fairness(served: Sequence[Outcome]) -> float:
    """Compute Jain's index (Jain, Chiu, Hawe, 1984) over the sessions; NaN when there aren't two."""
    waits: dict[str, list[float]] = {}
    for each in served:
        if each.session:
            waits.setdefault(each.session, []).append(each.ttft)
    means = [math.fsum(each) / len(each) for each in waits.values()]
    if len(means) < 2:
        return math.nan
    return _ratio(math.fsum(means) ** 2, len(means) * math.fsum(mean * mean for mean in means))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the least of the ``ordered`` values that ``percent`` of them don't exceed; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
