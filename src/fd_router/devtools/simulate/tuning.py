"""Tuning: searches the weights of a policy that suit a trace, and says how far the gain is to be believed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.simulate.simulator import Fleet, simulate
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.errors import ConfigError

MISSING: Final = "--tune searches with cma; pip install 'cma>=4.0'"

SEEDS: Final = 3
"""Seeds by which a result is judged, on each half of the trace."""

FEW: Final = 20
"""Requests that a trace must have, for its halves to say something."""

_STEP: Final = 0.25
"""The first steps of the search, as a share of each range."""

_T_95: Final = 2.571
"""Student's t for 95 % and five degrees of freedom: two halves by three seeds, less one."""


class Range(msgspec.Struct, frozen=True):
    """Where a weight is searched. Beyond these bounds nobody has found anything."""

    low: float
    high: float
    is_whole: bool = False

    def value(self, place: float) -> float:
        """Return the weight at ``place``, from 0 to 1. The square makes small ones as easy to find as large ones."""
        value = self.low + (self.high - self.low) * place * place
        return round(value) if self.is_whole else float(f"{value:.3g}")

    def place(self, value: float) -> float:
        """Return where a weight lies, kept within the range."""
        return math.sqrt(min(max((value - self.low) / (self.high - self.low), 0.0), 1.0))


_CACHE_AWARE: Final = {
    "hit_ratio_weight": Range(0.01, 4.0),
    "load_balance_weight": Range(0.01, 4.0),
    "balance_abs_threshold": Range(0.5, 32.0),
}

SPACES: Final[Mapping[str, Mapping[str, Range]]] = MappingProxyType({
    "ttft_aware": {
        "ttft_recompute_weight": Range(0.0, 6.0),
        "ttft_decode_weight_ms": Range(0.0, 30.0),
        "ttft_feed_tokens": Range(0, 32_768, is_whole=True),
    },
    "cache_aware": _CACHE_AWARE,
    "remote_cache_aware": _CACHE_AWARE,
})  # fmt: skip
"""Policy → what of ``SchedulerConfig`` is searched, and where."""


class Tuned(msgspec.Struct, frozen=True):
    """What the search found."""

    policy: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    ratios: Sequence[tuple[str, float]]  # (which half and seed, mean time to first token after over before)

    @property
    def mean(self) -> float:
        """The geometric mean of the ratios."""
        return math.exp(statistics.fmean(math.log(ratio) for _, ratio in self.ratios))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of that mean, by Student's t over halves and seeds."""
        logs = [math.log(ratio) for _, ratio in self.ratios]
        half = _T_95 * statistics.stdev(logs) / math.sqrt(len(logs))
        return math.exp(math.log(self.mean) - half), math.exp(math.log(self.mean) + half)

    @property
    def is_gain(self) -> bool:
        """Whether it is better beyond doubt: on average, and on the half that the search hasn't seen."""
        return self.interval[1] < 1.0 and all(ratio < 1.0 for which, ratio in self.ratios if which.startswith("second"))


def tune(
    requests: Sequence[TraceRequest],
    fleet: Fleet,
    policy: str,
    options: SchedulerConfig,
    *,
    runs: int,
    seed: int = 0,
    on_run: Callable[[int], None] = lambda _: None,
) -> Tuned:
    """Search on the first half of the trace, ``runs`` simulations long, and judge on both. Raises ConfigError."""
    space = SPACES.get(policy)
    if space is None:
        raise ConfigError(f"--tune {policy}: its weights aren't known; choose one of: {', '.join(SPACES)}")
    if len(requests) < FEW:
        raise ConfigError(f"--tune: the trace has {len(requests)} requests, of which nothing follows; it takes {FEW}")
    first, second = _halves(requests)
    names = tuple(space)

    def options_at(places: Sequence[float]) -> SchedulerConfig:
        return msgspec.structs.replace(
            options, **{name: space[name].value(x) for name, x in zip(names, places, strict=True)}
        )

    def cost(places: Sequence[float]) -> float:
        return math.log(_mean(first, fleet, policy, options_at(places), seed))

    best = _search(cost, [space[name].place(getattr(options, name)) for name in names], runs, seed, on_run)
    found = options_at(best)
    ratios = [
        (
            f"{which} half, seed {each}",
            _mean(half, fleet, policy, found, each) / _mean(half, fleet, policy, options, each),
        )
        for which, half in (("first", first), ("second", second))
        for each in range(seed, seed + SEEDS)
    ]
    before, after = ({name: getattr(each, name) for name in names} for each in (options, found))
    return Tuned(policy, before, after, ratios)


def _search(
    cost: Callable[[Sequence[float]], float],
    start: Sequence[float],
    runs: int,
    seed: int,
    on_run: Callable[[int], None],
) -> Sequence[float]:
    """Return the best point of the unit cube: CMA-ES (Hansen, 2016) from ``start``, which is tried too."""
    try:
        import cma  # type: ignore[import-untyped]  # noqa: PLC0415  an extra
    except ImportError:
        raise ConfigError(MISSING) from None
    settings = {"bounds": [0, 1], "seed": seed + 1, "verbose": -9, "maxfevals": runs}
    strategy = cma.CMAEvolutionStrategy(list(start), _STEP, settings)
    best, lowest, done = start, cost(start), 1
    while done < runs and not strategy.stop():
        points = strategy.ask()
        costs = []
        for point in points:
            costs.append(cost(point))
            done += 1
            on_run(done)
            if costs[-1] < lowest:
                best, lowest = point, costs[-1]
        strategy.tell(points, costs)
    return best


def _halves(requests: Sequence[TraceRequest]) -> tuple[list[TraceRequest], list[TraceRequest]]:
    middle = len(requests) // 2
    begun = requests[middle].at
    later = [msgspec.structs.replace(request, at=request.at - begun) for request in requests[middle:]]
    return list(requests[:middle]), later


def _mean(requests: Sequence[TraceRequest], fleet: Fleet, policy: str, options: SchedulerConfig, seed: int) -> float:
    return simulate(requests, fleet, policy, options, seed=seed).summary().ttft_mean
