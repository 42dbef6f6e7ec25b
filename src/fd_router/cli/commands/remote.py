"""The options of commands that ask a running router, and what they make of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from fd_router.admin.actions import Actions
from fd_router.admin.router_client import DEFAULT, FORM, Address, RouterClient
from fd_router.admin.views import console
from fd_router.config.loading import ADDRESS_VARIABLE
from fd_router.errors import ConfigError

TOKEN_VARIABLE: Final = "FD_ROUTER_ACCESS_ADMIN_TOKEN"  # noqa: S105  the name of a variable

F = TypeVar("F", bound=Callable[..., Any])


def connection_options(*, timeout_secs: float) -> tuple[Callable[[F], F], ...]:
    """Return the options by which every command connects to a router; ``timeout_secs`` is their default."""
    return (
        click.option("--ca-path", default="", metavar="FILE", help="The authority of its certificate, for https."),
        click.option(
            "--timeout-secs",
            type=click.FloatRange(0.1, 3600),
            default=timeout_secs,
            show_default=True,
            help="For an answer.",
        ),
    )


def remote(command: F) -> F:
    """Give a command the options by which ``client_of`` finds a router."""
    for option in reversed(
        (
            click.option(
                "--router",
                default=DEFAULT,
                envvar=ADDRESS_VARIABLE,
                show_envvar=True,
                show_default=True,
                metavar="ADDRESS",
                help=f"The router: {FORM}.",
            ),
            click.option(
                "--token-path",
                metavar="FILE",
                help=f"File with the admin token; else that of {TOKEN_VARIABLE}, if any.",
            ),
            *connection_options(timeout_secs=10.0),
        )
    ):
        command = option(command)
    return command


def remote_with_json(command: F) -> F:
    """Give a command these and ``--json``."""
    return remote(
        click.option("--json", "as_json", is_flag=True, help="Print what the router answers, as JSON.")(command)
    )


def client_of(router: str, token_path: str | None, ca_path: str, timeout_secs: float) -> RouterClient:
    """Make the client. Raises ConfigError."""
    address = Address.parse(router)
    token = _read(token_path) if token_path else os.environ.get(TOKEN_VARIABLE, "")
    if token and not address.token:
        address = msgspec.structs.replace(address, token=token)
    return RouterClient(address, timeout_secs=timeout_secs, ca_path=ca_path)


def actions_of(values: dict[str, Any]) -> Actions:
    """Make the actions of a command from its options, which are taken out of ``values``."""
    as_json = values.pop("as_json")
    names = ("router", "token_path", "ca_path", "timeout_secs")
    return Actions(client_of(**{name: values.pop(name) for name in names}), console(), as_json=as_json)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII text"
        raise ConfigError(f"--token-path: {path}: {(reason or str(error)).lower()}") from None
