"""What a router costs: CPU time per request or chunk, beside nginx and the Rust routers, all in one run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from contenders import NGINX, OURS, Contender, contenders
from processes import Program, allow_files, answers, make_console, need_programs, post, wait_until
from rich.console import Console
from rich.table import Table
from works import PATH, Figures, Work, all_works

START_SECS = 60.0
PROBE = post(PATH, b'{"model":"m","messages":[{"role":"user","content":"hello"}]}')


class Row:
    """What was measured of one contender."""

    def __init__(self, contender: Contender, figures: Figures, resident_bytes: int) -> None:
        self.name = contender.name
        self.family = contender.family
        self.figures = figures
        self.resident_mib = resident_bytes / 2**20


def main() -> int:
    """Measure and print one table a work."""
    arguments = _arguments()
    works = all_works()
    chosen = [works[name] for name in arguments.what.split(",")]
    need_programs(*dict.fromkeys(program for work in chosen for program in work.programs))
    allow_files(4096)
    console = make_console()
    for work in chosen:
        with tempfile.TemporaryDirectory(prefix="fd-router-bench-") as name:
            rows = _measure(work, Path(name), arguments, console)
        console.print(_table(work, rows))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", default="short,stream,long,pd-short,pd-long", help="works to measure [all five]")
    parser.add_argument("--peers", type=Path, help="bin folder of a venv with vllm-router, sglang-router, smg")
    parser.add_argument("--only", default="", help="contenders to measure, by the beginning of their names")
    parser.add_argument("--seconds", type=float, default=4, help="a round [4]")
    parser.add_argument("--rounds", type=int, default=3, help="to take the median of [3]")
    return parser.parse_args()


def _measure(work: Work, directory: Path, arguments: argparse.Namespace, console: Console) -> list[Row]:
    rows = []
    wanted = tuple(arguments.only.split(","))
    with work.instances(directory) as instances:
        for contender in contenders(
            directory, instances, work.policies, work.rust_policy, arguments.peers, pairs=work.pairs
        ):
            if not contender.name.startswith(wanted):
                continue
            with console.status(f"{work.name}: {contender.name}"):
                row = _measure_one(work, contender, directory, arguments)
            if isinstance(row, str):
                console.print(f"{work.name}: {contender.name} never answered: {row}", markup=False)
            else:
                rows.append(row)
    return rows


def _measure_one(work: Work, contender: Contender, directory: Path, arguments: argparse.Namespace) -> Row | str:
    """Return what was measured, or what the program said instead of answering."""
    with Program(contender.name.replace(" ", "-"), contender.command, directory) as program:
        wait_until(lambda: program.has_ended or answers(contender.port, PROBE), START_SECS)
        if not answers(contender.port, PROBE):
            return program.output.read_text(errors="replace").strip()[-300:]
        figures = work.measure(program, contender.port, directory, arguments.seconds, arguments.rounds)
        return Row(contender, figures, program.resident_bytes())


def _table(work: Work, rows: list[Row]) -> Table:
    title = f"{work.name}: CPU per {work.unit}"
    table = Table(title=title, title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("CPU µs", "× nginx", "× best Rust", f"{work.unit}s/s", work.latency, "MiB"):
        table.add_column(heading, justify="right")
    table.add_column("")
    nginx = min((row.figures.cpu_us for row in rows if row.family == NGINX), default=0.0)
    rust = min((row.figures.cpu_us for row in rows if row.family == "rust"), default=0.0)
    for row in rows:
        figures = row.figures
        table.add_row(
            f"[bold]{row.name}[/]" if row.family == OURS else row.name,
            f"{figures.cpu_us:.1f}",
            _ratio(figures.cpu_us, nginx),
            _ratio(figures.cpu_us, rust),
            f"{figures.per_sec:,.0f}",
            f"{figures.latency_ms:.1f} ms",
            f"{row.resident_mib:.0f}",
            f"[red]{figures.errors}[/]" if figures.errors else "",
        )
    return table


def _ratio(cost: float, of: float) -> str:
    return f"{cost / of:.2f}" if of else ""


if __name__ == "__main__":
    sys.exit(main())
