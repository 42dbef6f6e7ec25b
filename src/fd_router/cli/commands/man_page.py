"""``fd-router man-page``: the manual page."""

from __future__ import annotations

import click

from fd_router.cli.man_page import man_page


@click.command("man-page")
@click.pass_context
def command(context: click.Context) -> None:
    """Print the manual page, made from the commands and their options."""
    root = context.find_root().command
    assert isinstance(root, click.Group)
    click.echo(man_page(root), nl=False)
