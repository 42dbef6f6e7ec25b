"""The wall clock jumps: it is for what people read, and no limit may depend on it."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "fd_router"
WALL = {("time", "time"), ("time", "time_ns"), ("time", "localtime"), ("datetime", "now"), ("date", "today")}
FOR_READERS = ("telemetry", "devtools", "admin")


def uses(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in WALL:
            found.add(f"{node.value.id}.{node.attr}")
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {f"time.{name.name}" for name in node.names if ("time", name.name) in WALL}
    return found


def test_the_wall_clock_is_for_readers_only() -> None:
    found = {str(path.relative_to(SOURCES)): names for path in SOURCES.rglob("*.py") if (names := uses(path))}
    assert found, "the test looks for the wrong names"
    elsewhere = {path: names for path, names in found.items() if not path.startswith(FOR_READERS)}
    assert elsewhere == ALLOWED


ALLOWED: dict[str, set[str]] = {
    "api/models.py": {"time.time"},  # "created", of models that don't tell theirs
    "app/choice_report.py": {"time.time"},  # the stamp of a log line
    "app/recording.py": {"datetime.now", "time.time"},  # the name of a recording's file, and when it began
    "app/dashboard.py": {"time.time"},  # when something happened, as the page shows it
    "http/server_connection.py": {"time.time"},  # the Date of an answer
}
