"""``fd-router mock``: a mock instance."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.flags import flags_for, read_options
from fd_router.config.options import declared
from fd_router.devtools.mock import manual, run
from fd_router.devtools.mock.options import MockOptions


class _MockCommand(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Called by click."""
        for title, rows in manual.sections():
            with formatter.section(title):
                formatter.write_dl(rows)


@click.command("mock", cls=_MockCommand, params=flags_for(declared(MockOptions)))
def command(**values: Any) -> int:
    """Run a mock instance.

    It is a FastDeploy-like server with an engine model instead of a GPU, for tests and trials.
    """
    return run.run(read_options(MockOptions, values))
