"""``fd-router top``: a running router's fleet in the terminal."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from fd_router.admin.router_client import AdminError, RouterClient, instance_path
from fd_router.admin.top.feed import FeedReader
from fd_router.cli.commands.remote import client_of, remote
from fd_router.errors import ConfigError

MISSING = "fd-router top needs the package textual: pip install 'textual>=1.0' (in a clone: pip install '.[tui]')"


@click.command("top")
@remote
def command(**values: Any) -> int:
    """Watch a running router's instances, traffic and failures in the terminal.

    Follows the router's dashboard (server.dashboard), so it shows what that shows: decisions and failures with the
    admin token. q ends it; d drains, r removes the chosen instance. Needs 80 columns and 24 lines, and one more
    package: pip install 'textual>=1.0' (in a clone: pip install '.[tui]').
    """
    client = client_of(**values)
    if not sys.stdout.isatty():
        raise AdminError("fd-router top draws on a terminal; 'fd-router status' prints")
    try:
        app = import_module("fd_router.admin.top.app").Top(FeedReader(client), _act(client), client.address.url)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise ConfigError(MISSING) from None
    code = app.run()
    if app.problem:
        raise AdminError(app.problem)
    return int(code or 0)


def _act(client: RouterClient) -> Any:
    def act(action: str, key: str) -> None:
        if action == "remove":
            client.ask("DELETE", instance_path(key))
        else:
            client.ask("POST", instance_path(key, f"/{action}"))

    return act
