"""``fd-router reload``: configuration, instances, keys and certificates read anew by a running router."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.commands.remote import actions_of, remote_with_json


@click.command("reload")
@remote_with_json
def command(**values: Any) -> int:
    """Have a running router read all its files anew.

    All or nothing: exits with 1, and nothing has changed, when anything is wrong with any of them.
    """
    return actions_of(values).reload()
