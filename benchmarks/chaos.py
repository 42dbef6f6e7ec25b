"""Faults of instances, of the system and of the router itself, each under load: what was answered, lost, leaked.

``python benchmarks/chaos.py [--only WORDS] [--seconds 3] [--clients 16]``. Exits with 1 if something happened that the
fault doesn't excuse. "Lost" is a request without an answer, "broke off" one whose client saw that its answer isn't
whole, "recovered" the time from the fault's end to the last failure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import uvloop
from rich import box
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from processes import make_console  # noqa: E402
from tests.support.chaos import ANSWERED, BROKEN, ERROR, LOST, TRIALS, WRONG, Plan, Report, run_trial  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only the faults with these words in their name")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a fault lasts")
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    plan = Plan(fault=arguments.seconds, clients=arguments.clients)
    chosen = [trial for trial in TRIALS if arguments.only in trial.name]
    reports = [uvloop.run(run_trial(trial, plan)) for trial in chosen]
    console = make_console()
    console.print(as_table(reports))
    for report in reports:
        for problem in report.problems[:5]:
            console.print(f"[red]{escape(report.fault)}: {escape(problem)}[/]")
    return 1 if any(report.problems for report in reports) or not reports else 0


def as_table(reports: list[Report]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    endings = (ANSWERED, ERROR, BROKEN, LOST, WRONG)
    for column in ("fault", "sent", *endings, "leaked", "recovered"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for report in reports:
        leaked = sum(problem.startswith("leaked") for problem in report.problems)
        recovered = "never" if report.recovered_secs is None else f"{report.recovered_secs:.1f} s"
        numbers = [f"{report.endings[ending]:,}" for ending in endings]
        table.add_row(report.fault, f"{report.sent:,}", *numbers, str(leaked), recovered)
    return table


if __name__ == "__main__":
    sys.exit(main())
