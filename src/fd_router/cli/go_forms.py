"""Arguments in the forms of Go's ``flag`` package, in which FastDeploy's operators type them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

import click

from fd_router.cli.flags import ROUTER_OPTIONS, negated
from fd_router.config.options import kebab

_TRUTHS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "t", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "f", "0", "no", "off"), False),
}
"""Words for truth values: those of Go's flag package, and those of the configuration."""


def go_forms(arguments: Iterable[str]) -> list[str]:
    """Rewrite what Go's ``flag`` package takes and click doesn't.

    ``-port 30000`` → ``--port 30000``, ``-splitwise=false`` → ``--no-splitwise``. Raises click.UsageError for a
    truth value that is none.
    """
    known = {option.flag for option in ROUTER_OPTIONS} | {"--config-path", "--version", "--help"}
    truths = {option.flag: option for option in ROUTER_OPTIONS if option.kind is bool}
    rewritten = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        long = f"--{kebab(name.lstrip('-'))}"
        if (equals and name == "-V") or name == "--V" or (equals and long == "--version" and name.startswith("-")):
            rewritten += ["--version"] if not equals or _truth(name, value) else []
            continue
        if not name.startswith("-") or long not in known:
            rewritten.append(argument)
        elif equals and long in truths:
            rewritten.append(long if _truth(name, value) else negated(truths[long]))
        else:
            rewritten.append(f"{long}{equals}{value}")
    return rewritten


def without_extra(arguments: Sequence[str], commands: Container[str]) -> tuple[list[str], list[str]]:
    """Cut off what Go's ``flag`` package leaves alone: all from the first bare word behind a flag on.

    Returns what is kept and what is cut off. The first word of all is a command, or wrong; and the name of a command
    behind a flag is kept for the error that says where the flag belongs.
    """
    takes_value = {option.flag for option in ROUTER_OPTIONS if option.kind is not bool} | {"--config-path"}
    switches = {name for option in ROUTER_OPTIONS if option.kind is bool for name in (option.flag, negated(option))}
    place = 0
    while place < len(arguments) and arguments[place].startswith("-"):
        if arguments[place] == "--":
            return list(arguments[:place]), list(arguments[place + 1 :])
        name, equals, _ = arguments[place].partition("=")
        if name not in takes_value | switches | {"--version", "-V", "--help", "-h"}:
            break  # unknown: an error
        place += 2 if name in takes_value and not equals else 1
    if place == 0 or place >= len(arguments) or arguments[place].startswith("-") or arguments[place] in commands:
        return list(arguments), []
    return list(arguments[:place]), list(arguments[place:])


def _truth(flag: str, text: str) -> bool:
    value = _TRUTHS.get(text.lower())
    if value is None:
        raise click.UsageError(f"{flag}: {text!r} is not true or false")
    return value
