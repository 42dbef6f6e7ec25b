"""``fd-router remove``: an instance that is to be forgotten."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.commands.remote import actions_of, remote_with_json


@click.command("remove")
@click.argument("instance")
@click.option(
    "--ban-secs",
    type=click.FloatRange(0),
    default=0.0,
    help="Refuse its registrations for so long; else its next heartbeat brings it back, or a reload where "
    "register.yaml names it.",
)
@remote_with_json
def command(instance: str, ban_secs: float, **values: Any) -> int:
    """Forget INSTANCE (host_ip:port). Requests running there go on."""
    return actions_of(values).remove(instance, ban_secs=ban_secs)
