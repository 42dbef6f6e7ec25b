"""2,000 requests at once to pairs, an instance of each role killed and started again every second, for 30 seconds.

``python benchmarks/pd_chaos.py [seconds [concurrent]]``. Exits with 1 if a request had no answer, or another's, or if
anything is left open or counted.
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

from tests.support.pd_chaos import Plan, Report, run_chaos  # noqa: E402

WIDTH = 120
SHOWN = 5  # problems of a kind


def main(arguments: list[str]) -> int:
    numbers = [float(argument) for argument in arguments]
    plan = Plan(*numbers[:1], *[int(number) for number in numbers[1:2]])
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    console.print(
        f"{plan.concurrent} requests at once for {plan.seconds:g} s; {plan.instances} prefill and {plan.instances} "
        f"decode instances, of which one each is killed every {plan.kill_every_secs:g} s …"
    )
    report = uvloop.run(run_chaos(plan))
    console.print(as_table(report))
    for error in report.errors[:SHOWN]:
        console.print(f"[dim]{escape(error)}[/]")
    for problem in report.problems[:SHOWN]:
        console.print(f"[red]{escape(problem)}[/]")
    return 1 if report.problems else 0


def as_table(report: Report) -> Table:
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("requests", f"{report.sent:,}")
    for ending, number in report.endings.most_common():
        table.add_row(f"  {ending}", f"{number:,}")
    table.add_section()
    table.add_row("instances killed", f"{report.kills:,}")
    table.add_row("attempts after the first", f"{report.retries:,}")
    table.add_row("seconds", f"{report.seconds:.1f}")
    table.add_section()
    table.add_row("without an answer", f"{len(report.unanswered):,}")
    table.add_row("answered twice, or with another's answer", f"{len(report.wrong):,}")
    table.add_row("leaked", ", ".join(report.leaked) or "nothing")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
