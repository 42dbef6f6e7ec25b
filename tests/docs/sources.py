"""What the router says, collected from its source: warnings, error lines, reasons not to start, codes of errors."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import fd_router

SOURCE = Path(fd_router.__file__).parent
BLANK = "\0"
"""Stands for what differs in a text."""

LOGGERS = frozenset({"warn", "error", "_warn", "_complain", "_log_error"})
"""Methods that write a warning or an error, whoever's they are."""

INDIRECT = {
    "scheduling/plugins/errors.py": "_log",  # which is ``log.error``
    "telemetry/record_sinks.py": "_log",
}
"""Files in which another name leads to such a method."""

WITHOUT_TEXT = {
    "app/process.py": "the configuration's own warnings",
    "app/reload.py": "the same",
    "instances/sources/members.py": "what a source warns of, which is collected there",
    "instances/sources/register_yaml.py": "Problem.text, which is collected where it is made",
    "routing/life.py": "the message of an HttpError, which is collected by its code",
    "routing/pair.py": "the same",
    "routing/request.py": "a message that stands above, in on_timed_out",
    "routing/request_queue.py": "a clock's reading",
    "tokenization/service.py": "the reason of a line that _warn writes",
    "tokenization/local.py": "the same",
}
"""Calls whose text stands elsewhere, by file, and where."""


class Said(NamedTuple):
    """What stands in the source. ``lines``: (file, text) of warnings and errors; ``fragments``: all texts."""

    lines: frozenset[tuple[str, str]]
    reasons: frozenset[str]  # not to start
    codes: frozenset[str]
    fragments: frozenset[str]


@functools.cache
def said(least: int = 7) -> Said:
    """Read the whole source, once. ``least``: characters of a fragment."""
    lines: set[tuple[str, str]] = set()
    reasons: set[str] = set()
    codes: set[str] = set()
    fragments: set[str] = set()
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree))
        fragments |= {node.value for node in nodes if isinstance(node, ast.Constant) if isinstance(node.value, str)}
        if {"devtools", "cli"} & set(path.relative_to(SOURCE).parts):  # tools that only the command line has
            continue
        file = str(path.relative_to(SOURCE))
        lines |= set(_log_lines(file, nodes))
        reasons |= {text_of(call.args[0]) for name, call in calls(nodes) if name == "FdRouterError" and call.args}
        codes |= _error_codes(file, nodes)
    return Said(
        frozenset(lines),
        frozenset(reasons),
        frozenset(code for code in codes if re.fullmatch(r"[a-z_]+", code)),
        frozenset(fragment for fragment in fragments if len(fragment) >= least),
    )


def text_of(node: ast.AST) -> str:
    """Return the text of a literal or an f-string with blanks, "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join([text_of(part) or BLANK for part in node.values])
    return ""


def calls(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.Call]]:
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id, node


def _log_lines(file: str, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    for name, call in calls(nodes):
        is_method = isinstance(call.func, ast.Attribute)
        if is_method and (name in LOGGERS or name == INDIRECT.get(file)) and call.args:
            texts = [text_of(argument) for argument in call.args]
            yield file, next(filter(None, texts), "")


def _error_codes(file: str, nodes: Iterable[ast.AST]) -> set[str]:
    """Return every code that an error of the router's may have."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.keyword) and node.arg == "code" and (text := text_of(node.value)):
            found.add(text)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(_name(target) == "code" for target in targets) and file != "http/tls.py":
                found |= {text for part in ast.walk(node.value) if (text := text_of(part))}
    return found


def _name(target: ast.expr) -> str:
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""


def pattern_of(text: str, most: int = 45) -> re.Pattern[str]:
    """Make the pattern of a line's beginning, ``most`` characters of it: anything where there is a blank."""
    parts = []
    for part in text.split(BLANK):
        parts.append(re.escape(part[:most]))
        most -= len(part)
        if most <= 0:
            break
    return re.compile(".+?".join(parts) + ".*")
