"""Flags made from declared options: the router's own, and those of a command whose options are a Struct."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import click
import msgspec

from fd_router.config.loading import CONFIG_PATH_VARIABLE, OPTIONS, Declared, from_texts
from fd_router.config.options import kebab, number_text
from fd_router.errors import ConfigError

ROUTER_OPTIONS: Final = tuple(option for option in OPTIONS if option.option.flag)
"""The options that the router's command line has."""

_METAVARS: Final[Mapping[type, str]] = {int: "INTEGER", float: "NUMBER", str: "TEXT"}

_WIDEST_METAVAR: Final = 40
"""A longer list of choices, which no line of a terminal holds and nothing breaks, stands in the help's text instead."""

S = TypeVar("S", bound=msgspec.Struct)


def router_flags() -> list[click.Parameter]:
    """Make the flags that name a configuration: of the router, and of commands that read it as the router does."""
    path = click.Option(
        ["--config_path"], metavar="FILE", envvar=CONFIG_PATH_VARIABLE, help="YAML file with the configuration."
    )
    return [path, *flags_for(ROUTER_OPTIONS)]


def given(values: Mapping[str, object]) -> dict[str, object]:
    """Return the router's flags among a command's ``values``, as ``config.load`` takes them."""
    return {f"{option.section}.{option.attribute}": _joined(values[option.attribute]) for option in ROUTER_OPTIONS}


def _joined(value: object) -> object:
    """Make one text of the texts of a flag that may be given often."""
    return (", ".join(value) or None) if isinstance(value, tuple) else value


def flags_for(options: Iterable[Declared]) -> list[click.Parameter]:
    """Make a click flag of each declared option. Values come as texts, for the declaration checks them."""
    return [_flag_for(option) for option in options]


def read_options(struct: type[S], values: Mapping[str, Any]) -> S:
    """Make the Struct from a command's ``values``. Raises click.UsageError."""
    texts = {
        name: str(value) if isinstance(value, bool) else value
        for name, value in values.items()
        if value not in (None, ())
    }
    try:
        return from_texts(struct, texts)
    except ConfigError as error:
        raise click.UsageError("; ".join(error.problems), click.get_current_context()) from None


def negated(option: Declared) -> str:
    """Return the flag that says no: ``--no-splitwise``."""
    return f"--no-{kebab(option.attribute)}"


def _flag_for(option: Declared) -> click.Option:
    if option.kind is bool:
        names = f"{option.flag}/{negated(option)}"
        return click.Option([option.attribute, names], default=None, help=option.option.help)
    choices = "|".join(option.option.choices)
    metavar = choices if 0 < len(choices) <= _WIDEST_METAVAR else _METAVARS[option.kind]
    many = option.many or option.option.repeated
    return click.Option([option.attribute, option.flag], metavar=metavar, multiple=many, help=_help(option))


def _help(option: Declared) -> str:
    text = option.option.help
    if len("|".join(option.option.choices)) > _WIDEST_METAVAR:
        text += f" It is {option.expected}."
    if option.many or not option.default:
        return text
    default = option.default if option.kind is str else number_text(option.default)
    unit = f" {option.option.unit}" if option.option.unit else ""
    return f"{text}  [default: {default}{unit}]"
