"""The program: one run of the command line, its exit code and its error lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from fd_router.cli.go_forms import go_forms, without_extra
from fd_router.cli.router import COMMANDS, router
from fd_router.errors import ConfigError, FdRouterError

_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run ``arguments`` and return the exit code: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.

    An error is one clear line on stderr for each problem, never a traceback.
    """
    try:
        kept, ignored = without_extra(go_forms(arguments), COMMANDS)
        if ignored:
            click.echo(f"fd-router: warning: ignored, as the Go program does: {' '.join(ignored)}", err=True)
        code = router.main(kept, prog_name="fd-router", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (click.ClickException, FdRouterError, OSError) as error:
        for line in _lines(error):
            click.echo(f"fd-router: error: {line}", err=True)
        return 2 if isinstance(error, click.UsageError) else 1
    return int(code or 0)


def _lines(error: Exception) -> Sequence[str]:
    """Say ``error`` in one line, or one for each of its problems."""
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "fd-router"
        return (f"{error.format_message()} (see {command} --help)",)
    if isinstance(error, OSError) and error.strerror:
        return (f"{error.filename}: {error.strerror}" if error.filename else error.strerror,)
    return (error.format_message() if isinstance(error, click.ClickException) else str(error),)
