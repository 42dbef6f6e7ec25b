"""``fd-router check-config``: all that is wrong with a configuration."""

from __future__ import annotations

import os

import click

from fd_router.app.config_checks import examine_with_files
from fd_router.cli.complaints import as_typed
from fd_router.cli.flags import given, router_flags
from fd_router.config import reference


@click.command("check-config", params=router_flags())
@click.option("--show", is_flag=True, help="Print the configuration in force, and where each value comes from.")
def command(config_path: str | None, show: bool, **values: object) -> int:
    """Say all that is wrong with a configuration.

    Exits with 1 if anything is.
    """
    report = examine_with_files(config_path, given(values), os.environ)
    typed = click.get_current_context().find_root().obj
    problems = [as_typed(problem, typed) for problem in report.problems]
    comment = "# " if show else ""  # what --show prints is a YAML file
    for warning in report.warnings:
        click.echo(f"{comment}warning: {warning}")
    for problem in problems:
        click.echo(f"{comment}error: {problem}")
    if show:
        click.echo(reference.in_force(report.config, report.origins), nl=False)
    if not problems:
        click.echo(f"{comment}OK")
    return 1 if problems else 0
