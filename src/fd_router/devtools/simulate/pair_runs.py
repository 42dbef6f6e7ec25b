"""``simulate --splitwise``: each pair of policies on each ratio of prefill to decode instances."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.report.outcomes import Result
from fd_router.devtools.simulate.options import SimulateOptions
from fd_router.devtools.simulate.pairs import PairFleet, simulate_pairs
from fd_router.devtools.simulate.simulator import Fleet
from fd_router.devtools.simulate.variants import variants_of
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.errors import ConfigError
from fd_router.scheduling.policies import find_policy


class PairRun(msgspec.Struct, frozen=True):
    """What one row of the table is made of."""

    name: str
    policy: str  # PREFILL+DECODE
    options: SchedulerConfig
    fleet: Fleet
    pairs: PairFleet

    def result(self, requests: Sequence[TraceRequest], seed: int, on_progress: Callable[[int], None]) -> Result:
        """Simulate it. The spread is that of the prefill instances' work."""
        began = time.monotonic()
        outcomes = simulate_pairs(
            requests, self.fleet, self.pairs, self.policy, self.options, seed=seed, on_progress=on_progress
        )
        return Result(self.name, outcomes, self.pairs.prefills, time.monotonic() - began)


def pair_runs(options: SimulateOptions) -> list[PairRun]:
    """Read which policies, on which ratios. Raises ConfigError."""
    if options.join_at or options.routers > 1 or options.what_if or options.tune:
        raise ConfigError(
            "--splitwise: --join-at, --routers, --what-if and --tune are for mixed instances; leave them out"
        )
    runs = []
    for given in (each.strip() for each in options.policy.split(",") if each.strip()):
        first, _, named = given.partition("+")
        (variant,) = variants_of(first, options.set, options.config_path)
        decode = named or variant.options.decode_policy
        find_policy(decode, variant.options.policy_folder, role="decode", key="scheduler.decode-policy")
        for prefills, decodes in options.ratios:
            name = f"{variant.name}+{decode} {prefills}+{decodes}"
            fleet = msgspec.structs.replace(options.fleet, instances=prefills + decodes)
            pairs = PairFleet(prefills, decodes, options.transfer_ms / 1e3, options.transfer_ms_per_1k_tokens / 1e6)
            runs.append(PairRun(name, f"{variant.policy}+{decode}", variant.options, fleet, pairs))
    return runs
