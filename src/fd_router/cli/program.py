"""The program: one run of the command line, its exit code and its error lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from fd_router.cli.complaints import lines_of
from fd_router.cli.go_forms import go_forms, without_extra
from fd_router.cli.router import COMMANDS, router
from fd_router.errors import FdRouterError

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
        code = router.main(kept, prog_name="fd-router", standalone_mode=False, obj=tuple(arguments))
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (click.ClickException, FdRouterError, OSError) as error:
        for line in lines_of(error, arguments):
            click.echo(f"fd-router: error: {line}", err=True)
        return 2 if isinstance(error, click.UsageError) else 1
    return int(code or 0)
