"""Plays the fault matrix of disaggregated serving and prints it: ``python benchmarks/fault_matrix.py``.

The tests play the same one. Exits with 1 if anything came out wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import uvloop
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.fault_matrix import FAULTS, LEFT_SECS, ROLES, Case, Outcome, run_all  # noqa: E402

WIDTH = 140  # so that each field is one line


def main() -> int:
    outcomes = uvloop.run(run_all())
    wrong = [outcome for outcome in outcomes if outcome.problems]
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    console.print(as_table(outcomes))
    console.print(
        "Each field: what the client got, how many pairs were tried, and after how long nothing was open or counted "
        f"any more ({LEFT_SECS * 1000:.0f} ms are allowed)."
    )
    for outcome in wrong:
        console.print(f"[red]{outcome.case.name}[/]: {escape('; '.join(outcome.problems))}")
    console.print(f"[bold]{len(outcomes) - len(wrong)} of {len(outcomes)} are right.[/]")
    return 1 if wrong else 0


def as_table(outcomes: Iterable[Outcome]) -> Table:
    table = Table(title="Faults of a pair", title_justify="left", box=box.SIMPLE)
    for column in ("role", "fault", "stream", "whole", "stream, client leaves", "whole, client leaves"):
        table.add_column(column)
    by_case = {outcome.case: outcome for outcome in outcomes}
    for role in ROLES:
        for fault in FAULTS:
            fields = [
                _field(by_case[Case(role, fault, stream, leaves)])
                for leaves in (False, True)
                for stream in (True, False)
            ]
            table.add_row(role, fault, *fields)
        table.add_section()
    return table


def _field(outcome: Outcome) -> str:
    mark = "[red]✗[/]" if outcome.problems else "[green]✓[/]"
    pairs = f"{outcome.attempts} pair{'s' if outcome.attempts != 1 else ''}"
    return f"{mark} {outcome.answer} [dim]{pairs}, {outcome.clean_ms:.0f} ms[/]"


if __name__ == "__main__":
    sys.exit(main())
