"""A rollout of several routers, and of what they share, under load: nothing may fail that wasn't at a killed process.

``python benchmarks/rollout.py [times [workers]]`` (20, 1; it needs redis-server): four replicas of so many workers
before three instances are restarted in order, then killed, so many times; then their state engine is killed, stopped
(SIGSTOP) and restarted in order as often, and replicas are restarted while it is gone. Clients follow ``/ready``, and
half of them stream. Exits with 1 if a request failed, or a count isn't zero at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop
from processes import free_port, make_console, need_programs
from rich import box
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support import rollout  # noqa: E402
from tests.support.rollout import Plan, Report, run_rollout  # noqa: E402

EVENTS = (
    rollout.REPLICA_RESTARTED, rollout.REPLICA_KILLED, rollout.ENGINE_KILLED, rollout.ENGINE_STOPPED,
    rollout.ENGINE_RESTARTED, rollout.RESTARTED_WITHOUT_ENGINE,
)  # fmt: skip
SHOWN = 5  # failures


def main(arguments: list[str]) -> int:
    times, workers = (int(each) for each in (*arguments, *("20", "1")[len(arguments) :]))
    need_programs("redis-server")
    console = make_console()
    reports = {}
    for event in EVENTS:
        reports[event] = report = uvloop.run(run_rollout(Plan(events=[event] * times, workers=workers), free_port))
        for line in (report.failures + report.problems)[:SHOWN]:
            console.print(f"[red]{event}: {escape(line)}[/]")
    console.print(as_table(reports))
    return 1 if any(report.failures or report.problems for report in reports.values()) else 0


def as_table(reports: dict[str, Report]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "times", "answered", "of these streams", "lost with a killed process", "failed", "not zero"):
        table.add_column(heading, justify="right" if heading else "left")
    for event, report in reports.items():
        numbers = (
            report.done[event], report.answered, report.streams, report.lost_with_process, len(report.failures),
            len(report.problems),
        )  # fmt: skip
        table.add_row(event, *(f"{number:,}" for number in numbers))
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
