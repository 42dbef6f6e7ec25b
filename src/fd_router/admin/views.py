"""What the operator's commands print: tables that fit a terminal of 60 columns, and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDE = 160  # columns of a page that no terminal limits
_FLAGS = ("draining", "paused")
_READINESS = ("unready", "terminating")  # what an instance's source may say of it


def console() -> Console:
    """Return where to print: as wide as the terminal."""
    made = Console(highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def state_of(entry: Mapping[str, Any]) -> str:
    """Say in one word how an instance is: its health, or why it gets nothing although it is healthy."""
    told = [flag for flag in _FLAGS if entry.get(flag)]
    told += [word for word in _READINESS if entry.get("readiness") == word]
    return ", ".join([str(entry["state"]), *told] if told and entry["state"] != "healthy" else told or [entry["state"]])


def fleet_line(entries: Sequence[Mapping[str, Any]]) -> str:
    """Sum a fleet up."""
    serving = sum(state_of(entry) == "healthy" for entry in entries)
    running = sum(int(entry["running"]) for entry in entries)
    tokens = sum(int(entry["tokens"]) for entry in entries)
    requests = f"{running:,} {requests_word(running)}"
    return f"{serving} of {len(entries)} instances may be chosen; {requests} and {tokens:,} prompt tokens there"


def requests_word(number: int) -> str:
    """Return the word behind so many of them."""
    return "request" if number == 1 else "requests"


def fleet_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Make a row for each instance."""
    table = _table("instance", "role", "state", "running", "tokens", "named by", numbers=("running", "tokens"))
    for entry in entries:
        state = state_of(entry)
        colour = (
            "green" if state == "healthy" else "yellow" if set(state.split(", ")) <= {*_FLAGS, *_READINESS} else "red"
        )
        cells = (entry["key"], entry["role"], f"[{colour}]{escape(state)}[/]", entry["running"], entry["tokens"])
        table.add_row(*map(str, cells), escape(str(entry["source"])))
    return table


def explanation_table(role: Mapping[str, Any]) -> Table:
    """Make a row for each candidate of a role."""
    table = _table(
        "", "instance", "state", "running", "hit %", "load", "score", numbers=("running", "hit %", "load", "score")
    )
    for entry in role["candidates"]:
        mark = "→" if entry["url"] == role["choice"] else "=" if entry["best"] else ""
        figures = (entry["running"], entry["prefix_hit_percent"], entry["load"], entry["score"])
        name = str(entry["url"]).partition("://")[2]
        table.add_row(mark, escape(name), escape(str(entry["state"])), *map(_figure, figures))
    return table


def _table(*names: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    for name in names:
        is_number = name in numbers
        table.add_column(
            name, justify="right" if is_number else "left", no_wrap=is_number or name == "instance", overflow="fold"
        )
    return table


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, int) else f"{value:.3g}"
