"""``fd-router config-reference``: prints docs/configuration.md."""

from __future__ import annotations

import click

from fd_router.config.reference import reference


@click.command("config-reference", hidden=True)
def command() -> None:
    """Print docs/configuration.md."""
    click.echo(reference(), nl=False)
