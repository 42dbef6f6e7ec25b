"""The options of commands that look at a configuration and the router that runs with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fd_router.admin.router_client import DEFAULT, RouterClient
from fd_router.app.config_checks import examine_with_files
from fd_router.cli.commands.remote import client_of, connection_options
from fd_router.config.host_names import authority
from fd_router.config.loading import ADDRESS_VARIABLE, CONFIG_PATH_VARIABLE, Report

F = TypeVar("F", bound=Callable[..., Any])


def diagnosis(command: F) -> F:
    """Give a command the options that ``subject_of`` reads."""
    for option in reversed(
        (
            click.argument("router", required=False, metavar="[ROUTER]", envvar=ADDRESS_VARIABLE),
            click.option(
                "--config_path", metavar="FILE", envvar=CONFIG_PATH_VARIABLE, help="The router's configuration."
            ),
            click.option("--token-path", metavar="FILE", help="File with the admin token; else the configuration's."),
            *connection_options(timeout_secs=5.0),
        )
    ):
        command = option(command)
    return command


def subject_of(values: dict[str, Any]) -> tuple[RouterClient, Report | None]:
    """Return a client of the router, and what there is to say of the configuration, if one is named."""
    path = values["config_path"]
    report = examine_with_files(path, {}, os.environ) if path or "FD_ROUTER_SERVER_PORT" in os.environ else None
    address = values["router"] or (_address(report) if report is not None else DEFAULT)
    token_path = values["token_path"] or (report.config.access.admin_token_path if report is not None else "")
    client = client_of(address, token_path, values["ca_path"], values["timeout_secs"])
    token = report.config.access.admin_token if report is not None else ""
    return client.with_token(token), report


def _address(report: Report) -> str:
    """Return where the configuration's router listens for its operator on this machine."""
    access, server = report.config.access, report.config.server
    scheme = "https" if report.config.tls.cert_path else "http"
    host = "127.0.0.1" if server.host in {"0.0.0.0", "::", "localhost"} else server.host  # noqa: S104
    port = access.control_port or server.port
    return f"{scheme}://{authority(host, port)}" if port else DEFAULT
