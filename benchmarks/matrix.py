"""`ttft_aware` against every rival on every kind of traffic, in the simulator: where does it lose?

Traces × load × prefill speed × slots. Load is the use of the scarcest of three things: prefill (of what no cache could
save), slots, and KV memory. Each cell runs with several seeds (other arrivals, other chances; of Mooncake's trace other
parts), the same for all policies; a ratio is of the means over the seeds, its 95 % interval from the seeds' ratios.
The rival of a cell is the one with the lowest mean there. A cell fails when the interval lies above the limit.

    python benchmarks/matrix.py --quick [--trace mooncake-conversation.jsonl]
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
from processes import make_console
from rich.table import Table

from fd_router.config.loading import POLICIES, SchedulerConfig
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.report.outcomes import percentile
from fd_router.devtools.simulate.simulator import Fleet, simulate
from fd_router.devtools.traces.samples import SAMPLES
from fd_router.devtools.traces.trace import TraceRequest, at_speed, read_trace

OURS = "ttft_aware"
RIVALS = tuple(f"rivals:{name}" for name in ("LMetric", "StickyUntilSaturated", "LeastPendingPlusOwn", "DynamoCost"))
QUICK_POLICIES = ("ttft_aware", "request_num", "process_tokens", "cache_aware", *RIVALS)
"""Without those that draw, and those that are the same as another one in a simulation."""

INSTANCES = 8
DECODE_SECS, DECODE_SECS_PER_RUNNING = 0.010, 0.00005
KV_TOKENS = 1_000_000
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}  # Student's, two-sided, by number of seeds
LIMITS = {"ttft": 1.02, "p99": 1.10, "whole": 1.05}

SCENARIOS = {"joining": "tenants", "slow": "tenants"}
"""Fleets that aren't even: an instance joins in the middle, one is slow; the trace they see."""


class Cell(msgspec.Struct, frozen=True):
    """One place in the matrix, and with which seed."""

    trace: str
    load: float
    speed: float  # prefill tokens/s of an instance
    slots: int
    seed: int
    requests: int
    policies: tuple[str, ...]
    engine: str  # steps, plain
    path: str = ""  # of a trace in a file

    @property
    def name(self) -> str:
        """The cell without its seed."""
        return f"{self.trace} load {self.load:g}, {self.speed:,.0f} tokens/s, {self.slots} slots"


class Figures(msgspec.Struct, frozen=True):
    """Of one policy in one run, in seconds."""

    ttft: float
    p99: float
    whole: float
    cached: float


def requests_of(cell: Cell) -> list[TraceRequest]:
    """Return the cell's requests, in the trace's own time."""
    if not cell.path:
        kind = SCENARIOS.get(cell.trace, cell.trace)
        return SAMPLES[kind](cell.requests, cell.seed)
    whole = read_trace(cell.path)
    first = cell.seed * 2713 % max(1, len(whole) - cell.requests) if cell.requests < len(whole) else 0
    part = whole[first : first + cell.requests]
    return [msgspec.structs.replace(each, at=each.at - part[0].at) for each in part]


def rate_of(requests: Sequence[TraceRequest], cell: Cell) -> tuple[float, str]:
    """Return how many requests a second make the cell's load, and what is scarce then."""
    seen: set[int] = set()
    prefill = 0
    for each in requests:
        known = sum(1 for block in each.hash_ids if block in seen) * each.block_tokens
        seen.update(each.hash_ids)
        prefill += max(1, each.input_tokens - known)
    own = prefill / len(requests)
    output = statistics.fmean(each.output_tokens for each in requests)
    memory = statistics.fmean(each.input_tokens for each in requests) + output / 2

    def rate_with(batch: float) -> float:
        step = DECODE_SECS + DECODE_SECS_PER_RUNNING * batch
        return INSTANCES * batch / (output * step + own / cell.speed)

    rates = {
        "prefill": cell.load * INSTANCES * cell.speed / own,
        "slots": rate_with(cell.load * cell.slots),
        "memory": rate_with(cell.load * KV_TOKENS / memory) if cell.engine == "steps" else math.inf,
    }
    scarce = min(rates, key=lambda name: rates[name])
    return rates[scarce], scarce


def fleet_of(cell: Cell, seconds: float) -> Fleet:
    """Return the fleet that serves the cell, for ``seconds``."""
    engine = EngineSettings(
        prefill_tokens_per_sec=cell.speed,
        decode_secs=DECODE_SECS,
        decode_secs_per_running=DECODE_SECS_PER_RUNNING,
        cache_tokens=KV_TOKENS,
        max_running=cell.slots,
        chunk_tokens=8192 if cell.engine == "steps" else 0,
        kv_tokens=KV_TOKENS if cell.engine == "steps" else 0,
    )
    speeds = (1.0,) * (INSTANCES - 1) + (0.4,) if cell.trace == "slow" else ()
    joins = (seconds * 0.4,) if cell.trace == "joining" else ()
    return Fleet(INSTANCES, engine, speeds, joins)


def run_cell(cell: Cell) -> tuple[Cell, str, dict[str, Figures]]:
    """Run all policies on one cell with one seed."""
    requests = requests_of(cell)
    rate, scarce = rate_of(requests, cell)
    arrivals = at_speed(requests, rate * requests[-1].at / len(requests))
    fleet = fleet_of(cell, arrivals[-1].at)
    cached = {}
    for policy in cell.policies:
        name, _, given = policy.partition("+")
        options = SchedulerConfig(policy_folder=str(Path(__file__).parent))
        settings = {key: float(value) for key, value in (each.split("=") for each in given.split("+") if each)}
        options = msgspec.convert(msgspec.to_builtins(options) | settings, SchedulerConfig, strict=False)
        if name.startswith("rivals:"):
            options = msgspec.structs.replace(options, cache_instance_max_blocks=KV_TOKENS // 16)
        cached[policy] = _figures(simulate(arrivals, fleet, name, options, seed=cell.seed).outcomes)
    return cell, scarce, cached


def _figures(outcomes: Sequence[object]) -> Figures:
    waits = sorted(each.ttft for each in outcomes)  # type: ignore[attr-defined]
    whole = [each.seconds for each in outcomes]  # type: ignore[attr-defined]
    tokens = sum(each.input_tokens for each in outcomes)  # type: ignore[attr-defined]
    cached = sum(each.cached_tokens or 0 for each in outcomes)  # type: ignore[attr-defined]
    return Figures(statistics.fmean(waits), percentile(waits, 99), statistics.fmean(whole), cached / tokens)


class Verdict(msgspec.Struct):
    """One cell, over its seeds."""

    cell: Cell
    scarce: str
    rival: str
    mean: float
    rival_mean: float
    ratios: dict[str, tuple[float, float, float]]  # of what → ratio, and its interval
    cached: tuple[float, float]

    @property
    def failures(self) -> list[str]:
        """What fails here."""
        return [what for what, (_, low, _) in self.ratios.items() if low > LIMITS[what]]


def judge(runs: Sequence[tuple[Cell, str, dict[str, Figures]]], ours: str) -> Verdict:
    """Compare ours with the best rival of a cell's runs."""
    means = {
        policy: statistics.fmean(figures[policy].ttft for _, _, figures in runs)
        for policy in runs[0][2]
        if not policy.startswith(OURS)
    }
    rival = min(means, key=lambda policy: means[policy])
    pairs = [(figures[ours], figures[rival]) for _, _, figures in runs]
    ratios = {what: _ratio([(getattr(a, what), getattr(b, what)) for a, b in pairs]) for what in LIMITS}
    mean = statistics.fmean(a.ttft for a, _ in pairs)
    cached = (statistics.fmean(a.cached for a, _ in pairs), statistics.fmean(b.cached for _, b in pairs))
    return Verdict(runs[0][0], runs[0][1], rival.removeprefix("rivals:"), mean, means[rival], ratios, cached)


def _ratio(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the ratio of the sums and its 95 % interval, from the logarithms of the seeds' ratios."""
    ratio = sum(a for a, _ in pairs) / sum(b for _, b in pairs)
    logs = [math.log(a / b) for a, b in pairs]
    if len(logs) < 2:
        return ratio, ratio, ratio
    half = T95.get(len(logs), 2.3) * statistics.stdev(logs) / math.sqrt(len(logs))
    return ratio, ratio * math.exp(-half), ratio * math.exp(half)


def show(verdicts: Sequence[Verdict], most: int) -> None:
    """Print the worst cells first, and the sums."""
    console = make_console()
    table = Table("cell", "scarce", "best rival", "its mean", "ours", "ratio", "p99", "whole", "cached", "")
    for each in sorted(verdicts, key=lambda each: -each.ratios["ttft"][0])[:most]:
        ratio, low, high = each.ratios["ttft"]
        table.add_row(
            each.cell.name, each.scarce, each.rival, f"{each.rival_mean:.4g}", f"{each.mean:.4g}",
            f"{ratio:.3f} [{low:.2f}, {high:.2f}]".replace("[", "\\["), f"{each.ratios['p99'][0]:.2f}",
            f"{each.ratios['whole'][0]:.3f}", f"{each.cached[0]:.0%} / {each.cached[1]:.0%}", " ".join(each.failures),
        )  # fmt: skip
    console.print(table)
    failed = [each for each in verdicts if each.failures]
    busy = [each.ratios["ttft"][0] for each in verdicts if each.cell.load >= 0.6]
    line = f"{len(verdicts)} cells, {len(failed)} fail"
    for what, limit in LIMITS.items():
        above = sum(1 for each in verdicts if each.ratios[what][0] > limit)
        line += f"; {what}: {sum(what in each.failures for each in verdicts)} fail, {above} above {limit:g} as measured"
    console.print(line)
    if busy:
        console.print(f"geometric mean of the ratio where load ≥ 0.6: {statistics.geometric_mean(busy):.3f}")


def cells_of(arguments: argparse.Namespace) -> Iterator[Cell]:
    """Give all cells with all seeds, small ones first."""
    every = QUICK_POLICIES if arguments.quick else (*POLICIES, *RIVALS)
    policies = tuple(arguments.policies.split(",")) if arguments.policies else every
    traces = arguments.traces.split(",") if arguments.traces else [*SAMPLES, *SCENARIOS]
    files = {Path(path).stem: path for path in arguments.trace}
    axes = itertools.product(
        [*traces, *files],
        map(float, arguments.loads.split(",")),
        map(float, arguments.speeds.split(",")),
        map(int, arguments.slots.split(",")),
        range(arguments.seeds),
    )
    for trace, load, speed, slots, seed in axes:
        yield Cell(
            trace, load, speed, slots, seed + 1, arguments.requests, policies, arguments.engine, files.get(trace, "")
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300 requests, fewer loads, speeds, slots and rivals")
    parser.add_argument("--trace", action="append", default=[], help="a JSONL file beside the made ones; often")
    parser.add_argument("--traces", default="", help="[all kinds of examples/make_trace, joining, slow]")
    parser.add_argument("--loads", default="")
    parser.add_argument("--speeds", default="")
    parser.add_argument("--slots", default="")
    parser.add_argument("--seeds", type=int, default=3, help="[3]")
    parser.add_argument("--requests", type=int, default=0, help="at most so many a cell [2000]")
    parser.add_argument("--policies", default="", help="[all built-in ones and rivals:…]")
    parser.add_argument(
        "--engine", default="steps", choices=("steps", "plain"), help="chunks and KV memory, or neither"
    )
    parser.add_argument("--ours", default=OURS, help="the policy that is judged [ttft_aware]")
    parser.add_argument("--jobs", type=int, default=2, help="processes [2]")
    parser.add_argument("--show", type=int, default=40, help="so many cells, the worst ones [40]")
    parser.add_argument("--json", default="", help="write all figures there")
    arguments = parser.parse_args()
    short = arguments.quick
    arguments.loads = arguments.loads or ("0.3,0.95" if short else "0.05,0.3,0.6,0.95,1.1")
    arguments.speeds = arguments.speeds or ("5400,50000" if short else "5400,20000,50000")
    arguments.slots = arguments.slots or "8,32,256"
    arguments.requests = arguments.requests or (300 if short else 2000)
    return arguments


def main() -> int:
    """Run, judge, print; 1 when a cell fails."""
    arguments = _arguments()
    began = time.monotonic()
    cells = list(cells_of(arguments))
    with ProcessPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(run_cell, cells))
    verdicts = [judge(list(group), arguments.ours) for _, group in itertools.groupby(runs, lambda run: run[0].name)]
    show(verdicts, arguments.show)
    if arguments.json:
        data = [{"cell": cell, "scarce": scarce, "figures": figures} for cell, scarce, figures in runs]
        Path(arguments.json).write_bytes(msgspec.json.encode(data))
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    return int(any(each.failures for each in verdicts))


if __name__ == "__main__":
    sys.exit(main())
