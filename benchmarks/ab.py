"""What one tree of the router costs against another: CPU time per request or chunk, measured in turns in one run.

``python benchmarks/ab.py --against ../other-tree`` starts the router of this tree (A) and of the other (B) in front of
the same instances, measures them A B, B A, A B, …, and prints the median of the ratios A/B with its 95 % interval.
Both are started anew every few pairs: where a process happens to lie in memory makes it some per cent slower or faster
for as long as it lives.
``--with SECTION.KEY=VALUE`` sets an option for A alone: ``--with scheduler.shadow-policy=random`` tells its cost;
``--log-level`` sets it for both; ``--viewers N`` has so many look at A's dashboard. ``--router-cpus 0 --load-cpus 1``
keep the routers and what loads them from taking turns on one CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import comb
from pathlib import Path

from compare import PROBE
from processes import (
    FD_ROUTER,
    SOURCES,
    Program,
    add_cpu_options,
    answers,
    free_port,
    keep_load,
    make_console,
    need_programs,
    pin,
    wait_until,
    write_config,
)
from rich.table import Table
from works import Work, all_works

START_SECS = 60.0


@dataclass(frozen=True)
class Side:
    """One of the two routers."""

    program: Program
    port: int
    directory: Path


def main() -> int:
    """Measure and print one row for each work and policy."""
    arguments = _arguments()
    keep_load(arguments)
    works = all_works()
    chosen = [works[name] for name in arguments.what.split(",")]
    need_programs(*dict.fromkeys(program for work in chosen for program in work.programs))
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("work", "A µs", "B µs", "A / B", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "work" else "right", no_wrap=True)
    console = make_console()
    for work in chosen:
        for policy in work.policies:
            name = work.name if len(work.policies) == 1 else f"{work.name} {policy}"
            with console.status(name), tempfile.TemporaryDirectory(prefix="fd-router-ab-") as directory:
                table.add_row(name, *_compare(work, policy, Path(directory), arguments))
    console.print(table)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="the other tree: a checkout of this repository")
    parser.add_argument("--what", default="short,stream,long,pd-short,pd-long", help="works to measure [all five]")
    parser.add_argument("--pairs", type=int, default=15, help="measurements of each [15]")
    parser.add_argument("--start-every", type=int, default=5, help="pairs by the same two processes [5]")
    parser.add_argument("--seconds", type=float, default=2, help="one measurement [2]")
    parser.add_argument(
        "--with", dest="options", action="append", default=[], help="an option for A: SECTION.KEY=VALUE"
    )
    parser.add_argument("--log-level", default="info", help="of both [info]")
    add_cpu_options(parser)
    parser.add_argument("--viewers", type=int, default=0, help="who look at A's dashboard [0]")
    return parser.parse_args()


def _compare(work: Work, policy: str, directory: Path, arguments: argparse.Namespace) -> tuple[str, ...]:
    costs: list[list[float]] = [[], []]
    with work.instances(directory) as instances:
        while (done := len(costs[1])) < arguments.pairs:
            pairs = min(arguments.start_every, arguments.pairs - done)
            own = directory / f"from-{done}"
            own.mkdir()
            _measure(work, policy, own, instances, arguments, range(done, done + pairs), costs)
    return _row(*costs)


def _measure(
    work: Work,
    policy: str,
    directory: Path,
    instances: list[int],
    arguments: argparse.Namespace,
    numbers: range,
    costs: list[list[float]],
) -> None:
    """Start both routers, and add what the pairs with these ``numbers`` cost."""
    trees = (SOURCES, arguments.against.resolve() / "src")
    with ExitStack() as stack:
        level = f"log.level={arguments.log_level}"
        sides = [
            stack.enter_context(
                _side(work, policy, tree, directory / name, instances, [level, *options], pin(arguments))
            )
            for name, tree, options in zip("ab", trees, (arguments.options, []), strict=True)
        ]
        for side in sides:
            if not wait_until(lambda side=side: answers(side.port, PROBE), START_SECS):
                raise RuntimeError(side.program.output.read_text(errors="replace").strip()[-500:])
        for number in range(arguments.viewers):
            events = ("curl", "-sN", f"http://127.0.0.1:{sides[0].port}/dashboard/events", "-o", "/dev/null")
            stack.enter_context(Program(f"viewer-{number}", events, directory))
        for number in numbers:
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                side = sides[which]
                figures = work.measure(side.program, side.port, side.directory, arguments.seconds, 1)
                costs[which].append(figures.cpu_us)


@contextmanager
def _side(
    work: Work, policy: str, tree: Path, own: Path, instances: list[int], options: list[str], pinned: Sequence[str]
) -> Iterator[Side]:
    own.mkdir()
    port = free_port()
    config = write_config(own, port, instances, policy, pairs=work.pairs)
    values = json.loads(config.read_text())
    for option in options:
        key, _, value = option.partition("=")
        section, _, name = key.partition(".")
        values.setdefault(section, {})[name] = value
    config.write_text(json.dumps(values))
    with Program("router", [*pinned, *FD_ROUTER, "--config_path", str(config)], own, sources=tree) as program:
        yield Side(program, port, own)


def _row(ours: list[float], theirs: list[float]) -> tuple[str, ...]:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    rank = _rank(len(ratios))
    medians = (statistics.median(ours), statistics.median(theirs))
    interval = f"{ratios[rank - 1]:.3f} to {ratios[-rank]:.3f}"
    return (*(f"{median:.1f}" for median in medians), f"{statistics.median(ratios):.3f}", interval)


def _rank(pairs: int) -> int:
    """Return the rank of the ratio that bounds the median's 95 % interval, from below and from above (sign test)."""
    rank, beyond = 0, 1.0
    while beyond <= 0.025 * 2**pairs and rank < pairs:
        rank += 1
        beyond += comb(pairs, rank)
    return max(rank, 1)


if __name__ == "__main__":
    sys.exit(main())
