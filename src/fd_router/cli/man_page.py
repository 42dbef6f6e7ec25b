"""The manual page, made from the commands and their options: troff, as man(1) reads it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from fd_router import __version__

_EXIT = (
    ("0", "done; of the router: stopped by a signal"),
    ("1", "an error, told in a line for each problem"),
    ("2", "the command line isn't understood"),
    ("130", "ended by Ctrl-C"),
)

_FILES = (
    ("config.yaml", "named by --config_path or FD_ROUTER_CONFIG_PATH; docs/configuration.md lists every option"),
    ("register.yaml", "instances that are kept, named by manager.register-path"),
    ("keys.yaml", "API keys of clients, named by access.keys-path"),
)


def man_page(root: click.Group) -> str:
    """Write the page of ``root`` and all its commands that aren't hidden."""
    context = click.Context(root, info_name="fd-router")
    lines = [f'.TH FD-ROUTER 1 "" "fd-router {__version__}" "fd-router"', ".SH NAME"]
    lines += [r"fd-router \- load-balancing scheduling router for LLM inference", ".SH SYNOPSIS"]
    lines += [rf".B fd-router\fR [{_text('OPTIONS')}]", ".br", r".B fd-router \fICOMMAND\fR [OPTIONS] [ARGUMENTS]"]
    lines += [".SH DESCRIPTION", _text(root.help or ""), ".SH OPTIONS", *_options(root, context), ".SH COMMANDS"]
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        if command is not None and not command.hidden:
            lines += _command(command, click.Context(command, info_name=name, parent=context))
    lines += [".SH ENVIRONMENT", _text(" ".join((root.epilog or "").split()))]
    lines += [".SH FILES", *_pairs(_FILES), ".SH EXIT STATUS", *_pairs(_EXIT)]
    return "\n".join(lines) + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    arguments = " ".join(
        parameter.make_metavar(context) for parameter in command.params if isinstance(parameter, click.Argument)
    )
    yield f".SS {_text(f'fd-router {context.info_name} [OPTIONS] {arguments}'.strip())}"
    for paragraph in (command.help or "").split("\n\n"):
        yield from (".PP", _text(" ".join(paragraph.split())))
    yield from _options(command, context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    yield from _pairs((record[0], record[1]) for record in records if record is not None)


def _pairs(pairs: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, meaning in pairs:
        yield from (".TP", rf"\fB{_text(term)}\fR", _text(" ".join(meaning.split())))


def _text(text: str) -> str:
    """Escape what troff would take for its own: backslashes, dashes, other alphabets, a dot at the beginning."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = "".join(char if char.isascii() else rf"\[u{ord(char):04X}]" for char in escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
