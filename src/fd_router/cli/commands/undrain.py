"""``fd-router undrain``: an instance that is to get requests again."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.commands.remote import actions_of, remote_with_json


@click.command("undrain")
@click.argument("instance")
@remote_with_json
def command(instance: str, **values: Any) -> int:
    """Let INSTANCE (host_ip:port), which drains, have requests again."""
    return actions_of(values).undrain(instance)
