"""Log lines of membership."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from fd_router.instances.changes import Change, ChangeKind
from fd_router.telemetry.contracts import Log

_NAMED = 10

WriteLine = Callable[[Log, Change], None]
"""Writes the line for a change."""


def _first_up(log: Log, change: Change) -> None:
    if change.index is not None:
        log.info(f"Successfully registered instance from index {change.index}: {change.instance.url}")
    else:
        log.info(f"Successfully registered {change.role} instance: {change.instance.url}")


def _not_up(log: Log, change: Change) -> None:
    why = f"{change.instance.url} is not healthy ({change.detail}); kept and probed until it is"
    whence = change.instance.source.name if change.index is None else f"index {change.index}"
    log.error(f"Failed to register instance from {whence}: {why}")


def _models(log: Log, change: Change) -> None:
    names = [card.name for card in change.instance.models]
    listed = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    log.info(f"Models of {change.instance.url} are now: {listed or 'unknown'}")


# Operators' scripts look for "Removed unhealthy ROLE instance: URL", "URL is not healthy", "URL is healthy" and take
# the URL that stands right there: more text may follow, nothing may come in between.
_LINES: MappingProxyType[ChangeKind, WriteLine] = MappingProxyType({
    ChangeKind.FIRST_UP: _first_up,
    ChangeKind.NOT_UP: _not_up,
    ChangeKind.UP: lambda log, change: log.info(f"Server {change.instance.url} is healthy"),
    ChangeKind.SUSPECT: lambda log, change: log.warn(f"Server {change.instance.url} is not healthy ({change.detail})"),
    ChangeKind.DOWN: lambda log, change: log.error(
        f"Removed unhealthy {change.role} instance: {change.instance.url} ({change.detail})"
    ),
    ChangeKind.LIMIT: lambda log, change: log.info(
        f"Limit of {change.instance.url} is now {change.instance.registration.max_requests} requests ({change.detail})"
    ),
    ChangeKind.ROLE: lambda log, change: log.info(
        f"Role of {change.instance.url} is now {change.role} ({change.detail})"
    ),
    ChangeKind.ACCESS: lambda log, change: log.info(
        f"{change.instance.url} is spoken to otherwise from now on: {change.instance.access.in_words}"
    ),
    ChangeKind.MODELS: _models,
    ChangeKind.PAUSED: lambda log, change: log.info(f"Server {change.instance.url} is paused: no new requests"),
    ChangeKind.RESUMED: lambda log, change: log.info(f"Server {change.instance.url} is no longer paused"),
    ChangeKind.DRAINING: lambda log, change: log.info(
        f"Server {change.instance.url} drains: no new requests, {change.instance.running} running"
    ),
    ChangeKind.UNDRAINED: lambda log, change: log.info(f"Server {change.instance.url} no longer drains"),
    ChangeKind.READY: lambda log, change: log.info(
        f"Server {change.instance.url} is ready again, says {change.instance.source.name}"
    ),
    ChangeKind.UNREADY: lambda log, change: log.info(
        f"Server {change.instance.url} is not ready, says {change.instance.source.name}: no new requests "
        "while others serve"
    ),
    ChangeKind.TERMINATING: lambda log, change: log.info(
        f"Server {change.instance.url} terminates: no new requests, {change.instance.running} running"
    ),
    ChangeKind.CIRCUIT_OPEN: lambda log, change: log.warn(f"Circuit of {change.instance.url} opened: {change.detail}"),
    ChangeKind.CIRCUIT_HALF_OPEN: lambda log, change: log.info(
        f"Circuit of {change.instance.url} half-open {change.detail}: one request on trial"
    ),
    ChangeKind.CIRCUIT_CLOSED: lambda log, change: log.info(
        f"Circuit of {change.instance.url} closed: {change.detail}"
    ),
    ChangeKind.REMOVED: lambda log, change: log.info(
        f"Forgot {change.role} instance: {change.instance.url} ({change.detail})"
    ),
})  # fmt: skip


def log_change(log: Log, change: Change) -> None:
    """Write the line for ``change``, if it has one."""
    if (write_line := _LINES.get(change.kind)) is not None:
        write_line(log, change)
