"""The walls between modules that import-linter can't see: circles, those of imports for types alone included."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import fd_router

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

SOURCE = Path(fd_router.__file__).parent
PACKAGE = SOURCE.name


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Mapping[str, object]) -> Iterator[str]:
    """Give the modules of the package that a file imports, wherever in it that stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else node.module


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: set(imported(path, known)) - {name} for name, path in known.items()}


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that reach each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(arrows):
        if name not in order:
            visit(name)
    return found


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": {"e"}}) == [
        ["a", "b", "c"], ["e", "f"]
    ]  # fmt: skip
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_leads_back_to_itself() -> None:
    assert circles(graph()) == []


def rooms() -> dict[str, set[str]]:
    """Return which packages and top-level files use which others."""
    found: dict[str, set[str]] = {}
    for name, others in graph().items():
        if name != PACKAGE:
            room = name.split(".")[1]
            found.setdefault(room, set()).update(other.split(".")[1] for other in others if other != PACKAGE)
    return {room: others - {room} for room, others in found.items()}


def test_rooms_are_on_floors() -> None:
    """No room leads back to itself, over any other."""
    assert circles(rooms()) == []


def test_only_the_command_line_uses_the_tools() -> None:
    assert {room for room, others in rooms().items() if "devtools" in others} <= {"cli"}
