"""Complaints: an error as lines for whoever typed the command, in his own words, with what he probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import click

from fd_router.config.loading import CONFIG_PATH_VARIABLE, OPTIONS
from fd_router.config.options import did_you_mean, kebab, nearest
from fd_router.errors import ConfigError

_EXTRA: Final = re.compile(r"Got unexpected extra argument \((.+)\)$")
_LONG_FLAG: Final = re.compile(r"(?<![\w-])--[A-Za-z][\w-]*")


def lines_of(error: Exception, arguments: Sequence[str]) -> Sequence[str]:
    """Say ``error`` in one line, or one for each of its problems. ``arguments`` are those that were typed."""
    return [as_typed(line, arguments) for line in _lines(error, arguments)]


def as_typed(line: str, arguments: Iterable[str]) -> str:
    """Call each flag in ``line`` as it was typed: ``-port``, ``--config_path``."""
    typed = {_long(argument): argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
    return _LONG_FLAG.sub(lambda found: typed.get(found[0], found[0]), line)


def no_such_command(name: str, commands: Iterable[str], context: click.Context) -> click.UsageError:
    """Make the error of a first word that is no command."""
    hint = _as_configuration(name) or did_you_mean(name, commands)
    return click.UsageError(f"No such command '{name}'{hint}", context)


def _lines(error: Exception, arguments: Sequence[str]) -> Sequence[str]:
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "fd-router"
        said = _no_such_option(error, arguments) if isinstance(error, click.NoSuchOption) else _said(error)
        return (f"{said} (see {command} --help)",)
    if isinstance(error, OSError) and error.strerror:
        return (f"{error.filename}: {error.strerror}" if error.filename else error.strerror,)
    return (error.format_message() if isinstance(error, click.ClickException) else str(error),)


def _said(error: click.UsageError) -> str:
    said = " ".join(error.format_message().split())  # a list of choices has lines of its own
    context = error.ctx
    if (extra := _EXTRA.match(said)) and context and _reads_configuration(_flags(context.command, context)):
        return f"{said}{_as_configuration(extra[1])}"
    return said


def _as_configuration(word: str) -> str:
    """Say how a word that is a configuration's file is given."""
    return f"; did you mean --config_path {word}?" if word.endswith((".yaml", ".yml")) else ""


def _no_such_option(error: click.NoSuchOption, arguments: Iterable[str]) -> str:
    typed = _typed(error.option_name, arguments)
    context = error.ctx
    flags = _flags(context.command, context) if context else ()
    name = kebab(typed.lstrip("-")).lower()
    hint = _by_letter(name, flags) if len(name) == 1 else _by_name(name, flags, _reads_configuration(flags))
    return f"No such option '{typed}'{hint}"


def _typed(name: str, arguments: Iterable[str]) -> str:
    """Find what was typed: the parser takes ``-prot`` for the flags ``-p``, ``-r`` and so on."""
    for argument in arguments:
        word = argument.partition("=")[0]
        is_bundle = len(name) == 2 and word.startswith("-") and not word.startswith("--") and name[1] in word
        if is_bundle or _long(word) == name:
            return word
    return name


def _long(argument: str) -> str:
    return f"--{kebab(argument.partition('=')[0].lstrip('-'))}"


def _flags(command: click.Command, context: click.Context) -> Sequence[str]:
    named = (name for parameter in command.get_params(context) for name in parameter.opts)
    return [name for name in named if name.startswith("--")]


def _reads_configuration(flags: Iterable[str]) -> bool:
    """Whether a command has the flags of a configuration, whose options needn't have a flag."""
    return "--config_path" in flags


def _by_letter(letter: str, flags: Iterable[str]) -> str:
    begin = [flag for flag in flags if flag.startswith(f"--{letter}")]
    return f"; did you mean {min(begin, key=len)}?" if begin else ""


def _by_name(name: str, flags: Iterable[str], has_options: bool) -> str:
    meant = {kebab(flag.lstrip("-")): f"did you mean {flag}?" for flag in flags}
    if "router" in meant and "port" not in meant:  # a command that asks a running one
        meant |= dict.fromkeys(("port", "host"), "did you mean --router HOST:PORT?")
    if has_options:
        flagless = {kebab(option.attribute): _elsewhere(option.environment, option.key) for option in OPTIONS}
        full = {kebab(option.key.replace(".", "-")): _elsewhere(option.environment, option.key) for option in OPTIONS}
        meant = full | flagless | meant
    near = nearest(name, meant)
    return f"; {meant[near]}" if near else ""


def _elsewhere(variable: str, key: str) -> str:
    return f"it has no flag: give it as {variable}, or as {key} in the file of --config_path ({CONFIG_PATH_VARIABLE})"
