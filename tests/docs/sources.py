"""What the router says, collected from its source: warnings, error lines, reasons not to start, codes of errors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

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
    "instances/sources/register_yaml.py": "Problem.text, which is collected where it is made",
    "routing/life.py": "the message of an HttpError, which is collected by its code",
    "routing/pair.py": "the same",
    "routing/request.py": "a message that stands above, in on_timed_out",
    "routing/request_queue.py": "a clock's reading",
    "tokenization/service.py": "the reason of a line that _warn writes",
    "tokenization/local.py": "the same",
}
"""Calls whose text stands elsewhere, by file, and where."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Give every module of the router, without the tools that only the command line has."""
    for path in sorted(SOURCE.rglob("*.py")):
        if not {"devtools", "cli"} & set(path.relative_to(SOURCE).parts):
            yield str(path.relative_to(SOURCE)), ast.parse(path.read_text())


def text_of(node: ast.AST) -> str:
    """Return the text of a literal or an f-string with blanks, "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join([text_of(part) or BLANK for part in node.values])
    return ""


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id, node


def log_lines() -> Iterator[tuple[str, str]]:
    """Give file and text of every warning and error line."""
    for file, tree in trees():
        for name, call in calls(tree):
            is_method = isinstance(call.func, ast.Attribute)
            if is_method and (name in LOGGERS or name == INDIRECT.get(file)) and call.args:
                texts = [text_of(argument) for argument in call.args]
                yield file, next(filter(None, texts), "")


def reasons_not_to_start() -> Iterator[str]:
    for _, tree in trees():
        yield from (text_of(call.args[0]) for name, call in calls(tree) if name == "FdRouterError" and call.args)


def error_codes() -> set[str]:
    """Return every code that an error of the router's may have."""
    found: set[str] = set()
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code" and (text := text_of(node.value)):
                found.add(text)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(_name(target) == "code" for target in targets) and file != "http/tls.py":
                    found |= {text for part in ast.walk(node.value) if (text := text_of(part))}
    return {code for code in found if re.fullmatch(r"[a-z_]+", code)}


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


def fragments(least: int = 7) -> set[str]:
    """Return every piece of text of the router's source that has at least so many characters."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        found |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) if _is_text(node)}
    return {fragment for fragment in found if len(fragment) >= least}


def _is_text(node: ast.Constant) -> bool:
    return isinstance(node.value, str)
