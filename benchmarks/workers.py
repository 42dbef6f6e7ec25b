"""What a second worker costs and brings: ``python benchmarks/workers.py``; it needs what ``compare.py`` does.

Routers with one and with ``--workers`` workers are measured in turns before the same instances: CPU time a request or
chunk, the busiest worker's part of all workers' CPU time, and requests a second. The last says something only where the
load has cores of its own, at least twice as many as workers: ``--router-cpus 0,1 --load-cpus 2-5`` on a machine of six.

Streams come at their own pace: each of two workers has half of them, wakes for fewer chunks at a time, and so pays more
for each; and a core does less that shares its caches with another one at work. So a row more, of as many routers as
workers, which know nothing of each other: no supervisor, no bus, no connections handed over. What workers cost beside
that is their own. One router with as many streams as each worker has is shown, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from compare import PROBE, START_SECS
from processes import (
    FD_ROUTER,
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
from rich import box
from rich.table import Table
from works import Streams, Work, all_works


@dataclass
class Found:
    """What was measured of a number of workers, or of ``apart`` routers, a figure a round."""

    workers: int
    apart: int = 1
    cpu_us: list[float] = field(default_factory=list)
    per_sec: list[float] = field(default_factory=list)
    busiest: list[float] = field(default_factory=list)  # the busiest worker's part


def main() -> int:
    """Measure, and print a row a work and number of workers."""
    arguments = _arguments()
    load = keep_load(arguments)
    works = all_works(cores=max(1, len(load) // 2))
    chosen = [works[name] for name in arguments.what.split(",")]
    need_programs(*dict.fromkeys(program for work in chosen for program in work.programs))
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("work", "workers", "CPU µs", "× first", "busiest worker", "a second", "× first"):
        table.add_column(heading, justify="left" if heading == "work" else "right")
    for work in chosen:
        with tempfile.TemporaryDirectory(prefix="fd-router-workers-") as directory:
            _add(table, work, _compare(work, Path(directory), arguments))
    make_console().print(table)
    if not load:
        print("The load had no cores of its own: what is done in a second says nothing of the routers.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", default="short,stream", help="works to measure [short,stream]")
    parser.add_argument("--workers", type=int, default=2, help="to compare with one [2]")
    parser.add_argument("--rounds", type=int, default=5, help="of each [5]")
    parser.add_argument("--seconds", type=float, default=3, help="a round [3]")
    add_cpu_options(parser)
    return parser.parse_args()


def _compare(work: Work, directory: Path, arguments: argparse.Namespace) -> dict[str, Found]:
    """Measure by turns; the first figures are those of one worker, to which the others are compared."""
    many = arguments.workers
    part = work.part(many)
    cases = {"1": (Found(1), work), str(many): (Found(many), work), f"{many} routers apart": (Found(1, many), part)}
    if isinstance(work, Streams):
        cases = {f"1, 1/{many} of the streams": (Found(1), part), **cases}
    with work.instances(directory) as instances:
        for turn in range(arguments.rounds):
            for at, name in enumerate(cases if turn % 2 == 0 else reversed(cases)):
                found, one = cases[name]
                _measure_all(one, directory / f"{turn}-{at}", instances, arguments, found)
    return {name: found for name, (found, _) in cases.items()}


def _measure_all(work: Work, own: Path, instances: Sequence[int], arguments: argparse.Namespace, found: Found) -> None:
    """Measure as many routers at a time as ``found`` is of."""
    own.mkdir()
    each = [Found(found.workers) for _ in range(found.apart)]
    with ThreadPoolExecutor(found.apart) as threads:
        runs = [
            threads.submit(_measure, work, own / str(number), instances, arguments, one)
            for number, one in enumerate(each)
        ]
        for run in runs:
            run.result()
    rates = [one.per_sec[0] for one in each]
    found.per_sec.append(sum(rates))
    found.cpu_us.append(sum(one.cpu_us[0] * rate for one, rate in zip(each, rates, strict=True)) / sum(rates))
    found.busiest.append(each[0].busiest[0])


def _measure(work: Work, own: Path, instances: Sequence[int], arguments: argparse.Namespace, found: Found) -> None:
    """Start a router of as many workers as ``found`` is of, and add what it did."""
    own.mkdir()
    port = free_port()
    path = write_config(own, port, instances, work.policies[0])
    config = json.loads(path.read_text())
    config["server"]["workers"] = str(found.workers)
    path.write_text(json.dumps(config))
    with Program("router", [*pin(arguments), *FD_ROUTER, "--config_path", str(path)], own) as program:
        if not wait_until(lambda: program.has_ended or answers(port, PROBE), START_SECS) or program.has_ended:
            raise RuntimeError(program.output.read_text(errors="replace").strip()[-500:])
        before = program.cpu_seconds_of_children()
        figures = work.measure(program, port, own, arguments.seconds, 1)
        used = {pid: secs - before.get(pid, 0.0) for pid, secs in program.cpu_seconds_of_children().items()}
    found.cpu_us.append(figures.cpu_us)
    found.per_sec.append(figures.per_sec)
    found.busiest.append(max(used.values()) / sum(used.values()) if sum(used.values()) else 1.0)


def _add(table: Table, work: Work, found: dict[str, Found]) -> None:
    first = next(iter(found.values()))
    for name, each in found.items():
        cost, rate = statistics.median(each.cpu_us), statistics.median(each.per_sec)
        table.add_row(
            work.name,
            name,
            f"{cost:.1f}",
            f"{cost / statistics.median(first.cpu_us):.3f}",
            f"{statistics.median(each.busiest):.1%}" if each.workers > 1 else "",
            f"{rate:,.0f}",
            f"{rate / statistics.median(first.per_sec):.2f}",
        )


if __name__ == "__main__":
    sys.exit(main())
