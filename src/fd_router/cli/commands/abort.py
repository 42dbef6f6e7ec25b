"""``fd-router abort``: running requests that are to end."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.commands.remote import actions_of, remote_with_json


@click.command("abort")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Abort every request that runs.")
@remote_with_json
def command(ids: tuple[str, ...], everything: bool, **values: Any) -> int:
    """End running requests by their ids (request_id of the body, else x-request-id)."""
    if bool(ids) is everything:
        raise click.UsageError("give ids of requests, or --all", click.get_current_context())
    return actions_of(values).abort(ids, everything=everything)
