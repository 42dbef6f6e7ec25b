"""One of four instances killed (SIGKILL) every 2 seconds for a minute, under load that isn't streamed.

``python benchmarks/kill_one.py [seconds [clients]]``. Exits with 1 if a request had no right answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.kill_one import Plan, Report, run_kills  # noqa: E402

SHOWN = 5  # errors


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else Plan().seconds
    plan = Plan(seconds=seconds, clients=int(arguments[1]) if len(arguments) > 1 else Plan().clients)
    console = Console(highlight=False)
    console.print(
        f"{plan.clients} clients for {plan.seconds:g} s; one of {plan.instances} instances is killed every "
        f"{plan.kill_every_secs:g} s …"
    )
    report = uvloop.run(run_kills(plan))
    console.print(as_table(report))
    for error in report.errors[:SHOWN]:
        console.print(f"[red]{escape(error)}[/]")
    return 1 if report.lost or not report.at_work else 0


def as_table(report: Report) -> Table:
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("requests", f"{report.endings.total():,}")
    for ending, number in report.endings.most_common():
        table.add_row(f"  {ending}", f"{number:,}")
    table.add_row("instances killed", f"{report.kills:,}")
    table.add_row("  with requests at work", f"{report.at_work:,}")
    table.add_row("attempts after the first", f"{report.retries:,.0f}")
    table.add_row("counts put right", f"{report.repairs:,.0f}")
    table.add_row("failed", f"{report.lost:,}")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
