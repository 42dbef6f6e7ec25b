"""``fd-router drain``: an instance that is to get nothing new."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.commands.remote import actions_of, remote_with_json


@click.command("drain")
@click.argument("instance")
@click.option(
    "--wait-secs",
    type=click.FloatRange(0, 86400),
    default=0.0,
    help="Wait so long until nothing runs there; exits with 1 when something still does.",
)
@click.option(
    "--deadline-secs",
    type=click.FloatRange(0, 86400),
    help="Streams that still run there then go on at another instance, where one can; their clients see a pause.",
)
@remote_with_json
def command(instance: str, wait_secs: float, deadline_secs: float | None, **values: Any) -> int:
    """Give INSTANCE (host_ip:port) no new requests.

    What runs there goes on. It stays so until 'fd-router undrain'.
    """
    return actions_of(values).drain(instance, wait_secs=wait_secs, deadline_secs=deadline_secs)
