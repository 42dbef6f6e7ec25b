"""``fd-router status``: a running router and its instances."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.commands.remote import actions_of, remote_with_json


@click.command("status")
@remote_with_json
def command(**values: Any) -> int:
    """Show a running router and its instances.

    Exits with 1 when no request can be served.
    """
    return actions_of(values).status()
