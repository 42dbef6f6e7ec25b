"""The command that starts the router, and the table of those beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from fd_router import __version__
from fd_router.cli.complaints import no_such_command
from fd_router.cli.flags import given, router_flags
from fd_router.config.loading import CONFIG_PATH_VARIABLE, Loaded, load
from fd_router.config.options import kebab
from fd_router.config.origins import located
from fd_router.early_signals import let_go
from fd_router.errors import ConfigError

COMMANDS: Final[Mapping[str, str]] = {
    "init": "init",
    "check-config": "check_config",
    "status": "status",
    "top": "top",
    "drain": "drain",
    "undrain": "undrain",
    "remove": "remove",
    "explain": "explain",
    "reload": "reload",
    "abort": "abort",
    "doctor": "doctor",
    "bundle": "bundle",
    "make-key": "make_key",
    "hash-key": "hash_key",
    "demo": "demo",
    "mock": "mock",
    "replay": "replay",
    "simulate": "simulate",
    "completion": "completion",
    "config-reference": "config_reference",
    "man-page": "man_page",
}
"""Name → module in ``commands/``, which is imported when the command, or the list of all, is wanted."""

_SETTINGS: Final[dict[str, Any]] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "token_normalize_func": kebab,  # --config-path is as good as --config_path
}

_EPILOG: Final = f"""\
Every option, also those without a flag, can be given in the environment as FD_ROUTER_<SECTION>_<KEY>
(FD_ROUTER_SERVER_PORT), or in the file that --config_path or {CONFIG_PATH_VARIABLE} names. A flag wins over the
environment, the environment over the file. docs/configuration.md lists them all. Go's single-dash forms
(-port 30000) are understood.

Exit codes: 0 done, 1 an error, 2 a command line that isn't understood, 130 Ctrl-C.
"""


class _LateGroup(click.Group):
    """A group whose commands are imported when they are wanted: to start a router needs none."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f"fd_router.cli.commands.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if kebab(args[0]) not in COMMANDS:
            raise no_such_command(args[0], COMMANDS, ctx)
        return super().resolve_command(ctx, args)


def _say_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        version = import_module("importlib.metadata").version
        parts = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools", "msgspec"))
        python = ".".join(map(str, sys.version_info[:3]))
        click.echo(f"fd-router {__version__} (Python {python}, {parts})")
        context.exit()


@click.group(
    cls=_LateGroup,
    params=router_flags(),
    invoke_without_command=True,
    context_settings=_SETTINGS,
    epilog=_EPILOG,
    subcommand_metavar="[COMMAND]",
)
@click.option(
    "--version",
    "-V",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Say the version and exit.",
)
@click.pass_context
def router(context: click.Context, /, config_path: str | None, **values: object) -> int:
    """Start the router, or run a command."""
    if context.invoked_subcommand:
        let_go()
        for name in ("config_path", *values):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name} belongs behind '{context.invoked_subcommand}'", context)
        return 0
    read = partial(load, config_path, given(values), os.environ)
    loaded = _load(read)
    if loaded.config.log.output == "file":
        click.echo(f"fd-router: the log is {Path(loaded.config.log.path).absolute()}", err=True)
    try:
        code: int = import_module("fd_router.app.process").run(loaded.config, loaded.warnings, load=read)
    except ConfigError as error:
        raise ConfigError(*located(error.problems, loaded.origins)) from None
    return code


def _load(read: Callable[[], Loaded]) -> Loaded:
    """Read the configuration. Raises ConfigError whose lines begin as FastDeploy's do, which its operators look for."""
    try:
        return read()
    except ConfigError as error:
        begin = "Failed to load config: "
        raise ConfigError(*(x if x.startswith(begin) else begin + x for x in error.problems)) from None
