"""What one tree of the router costs against another: CPU time per request or chunk, measured in turns in one run.

``python benchmarks/ab.py --against ../other-tree`` starts the router of this tree (A) and of the other (B) in front of
the same instances, measures them A B, B A, A B, …, and prints the median of the ratios A/B with its 95 % interval.
``--with SECTION.KEY=VALUE`` sets an option for A alone: ``--with scheduler.shadow-policy=random`` tells its cost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from compare import PROBE
from processes import (
    FD_ROUTER,
    SOURCES,
    Program,
    answers,
    free_port,
    make_console,
    need_programs,
    wait_until,
    write_config,
)
from rich.table import Table
from works import Work, all_works

START_SECS = 60.0
SIGN_TEST_RANK = {6: 1, 7: 1, 8: 1, 9: 2, 10: 2, 11: 2, 12: 3, 13: 3, 14: 3, 15: 4, 16: 4, 17: 5, 18: 5, 19: 5, 20: 6}
"""Pairs → rank of the ratio that bounds the median's 95 % interval, from below and from above (sign test)."""


@dataclass(frozen=True)
class Side:
    """One of the two routers."""

    program: Program
    port: int
    directory: Path


def main() -> int:
    """Measure and print one row for each work and policy."""
    arguments = _arguments()
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
    parser.add_argument("--seconds", type=float, default=2, help="one measurement [2]")
    parser.add_argument(
        "--with", dest="options", action="append", default=[], help="an option for A: SECTION.KEY=VALUE"
    )
    return parser.parse_args()


def _compare(work: Work, policy: str, directory: Path, arguments: argparse.Namespace) -> tuple[str, ...]:
    trees = (SOURCES, arguments.against.resolve() / "src")
    with ExitStack() as stack:
        instances = stack.enter_context(work.instances(directory))
        sides = [
            stack.enter_context(_side(work, policy, tree, directory / name, instances, options))
            for name, tree, options in zip("ab", trees, (arguments.options, []), strict=True)
        ]
        for side in sides:
            if not wait_until(lambda side=side: answers(side.port, PROBE), START_SECS):
                raise RuntimeError(side.program.output.read_text(errors="replace").strip()[-500:])
        costs: list[list[float]] = [[], []]
        for number in range(arguments.pairs):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                side = sides[which]
                figures = work.measure(side.program, side.port, side.directory, arguments.seconds, 1)
                costs[which].append(figures.cpu_us)
    return _row(*costs)


@contextmanager
def _side(work: Work, policy: str, tree: Path, own: Path, instances: list[int], options: list[str]) -> Iterator[Side]:
    own.mkdir()
    port = free_port()
    config = write_config(own, port, instances, policy, pairs=work.pairs)
    values = json.loads(config.read_text())
    for option in options:
        key, _, value = option.partition("=")
        section, _, name = key.partition(".")
        values.setdefault(section, {})[name] = value
    config.write_text(json.dumps(values))
    with Program("router", [*FD_ROUTER, "--config_path", str(config)], own, sources=tree) as program:
        yield Side(program, port, own)


def _row(ours: list[float], theirs: list[float]) -> tuple[str, ...]:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    rank = SIGN_TEST_RANK.get(len(ratios), 1)
    medians = (statistics.median(ours), statistics.median(theirs))
    interval = f"{ratios[rank - 1]:.3f} to {ratios[-rank]:.3f}"
    return (*(f"{median:.1f}" for median in medians), f"{statistics.median(ratios):.3f}", interval)


if __name__ == "__main__":
    sys.exit(main())
