"""Serving at a port: what a listener is made of, what bounds it, and how it is emptied."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import ssl

from fd_router.app.memory import usable_memory
from fd_router.app.workers.seat import Seat
from fd_router.config.live import LiveConfig
from fd_router.config.loading import Config
from fd_router.errors import FdRouterError
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.dispatch import MAIN
from fd_router.http.handed_listener import HandedListener
from fd_router.http.listener import Listener, handed_over, open_sockets
from fd_router.http.server_connection import ServerConnection
from fd_router.http.server_context import ServerContext, ServerState
from fd_router.http.tls_greeting import TlsGreeter
from fd_router.telemetry.logging.text_log import RouterLog

HAND_OVER_SECONDS = 0.5
"""How long a router that shares its port goes on to accept: handshakes under way were begun with it."""


def handed_listener(
    config: Config, context: ServerContext, tls: ssl.SSLContext | None, seat: Seat, port: bytes
) -> HandedListener:
    """Make what takes the connections that a supervisor hands over. The first worker speaks for all in the log."""
    server, access = config.server, config.access
    host = server.host if port == MAIN else access.control_host
    return HandedListener(
        seat.inlet,
        port,
        lambda: ServerConnection(context),
        greeter=TlsGreeter(context, tls) if tls is not None else None,
        hosts=() if seat.index else (host,),
    )


def make_listener(config: Config, context: ServerContext, tls: ssl.SSLContext | None, log: RouterLog) -> Listener:
    """Take the sockets that were handed over, or bind the configured address. Raises FdRouterError."""
    server = config.server
    handed = handed_over(os.environ, os.getpid())
    if handed:
        log.info(f"Listening on {len(handed)} sockets that were handed over (LISTEN_FDS)")
    return Listener(
        handed or open_sockets(server.host, server.port, reuse_port=server.reuse_port),
        lambda: ServerConnection(context),
        greeter=TlsGreeter(context, tls) if tls is not None else None,
        is_shared=bool(handed),
        takes_over=bool(handed) or server.reuse_port,
        keepalive_secs=config.proxy.client_keepalive_secs,
    )


async def open_control(config: Config, context: ServerContext, tls: ssl.SSLContext | None, log: RouterLog) -> Listener:
    """Listen on the control port, for the endpoints that aren't for everybody.

    The control port answers until the router has stopped, so that a drain can be watched there. Raises FdRouterError.
    """
    access = config.access
    log.info(f"Control endpoints at {access.control_host}:{access.control_port}")
    try:
        sockets = open_sockets(access.control_host, access.control_port, reuse_port=config.server.reuse_port)
        # During a restart, what instances and admins say is for the new router: the old one will forget it.
        listener = Listener(
            sockets,
            lambda: ServerConnection(context),
            greeter=TlsGreeter(context, tls) if tls is not None else None,
            takes_over=config.server.reuse_port,
            keepalive_secs=config.proxy.client_keepalive_secs,
        )
        await listener.start()
    except (FdRouterError, OSError) as error:
        why = str(error).replace(" with --port", "")  # which is the other one's
        raise FdRouterError(f"access.control-port: {why}") from None
    return listener


def build_server_state(live: LiveConfig, sweeper: DeadlineSweeper, seat: Seat | None) -> ServerState:
    """Build what all connections share. Workers have equal parts of the machine's memory."""
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    memory = usable_memory() // (seat.count if seat is not None else 1)
    return ServerState(live, sweeper, open_files=open_files, memory=memory)


async def drain(
    state: ServerState, listener: Listener | HandedListener, live: LiveConfig, hurry: asyncio.Event, log: RouterLog
) -> None:
    """Take no more, and wait until what is under way is over, within the configured limits or until ``hurry``.

    The connections that are accepted, and those kept, learn from their answers that they have to go elsewhere.
    """
    server = live.current.server
    state.drain()
    await _wait(hurry, max(server.drain_delay_secs, HAND_OVER_SECONDS if server.reuse_port else 0))
    state.close_idle()
    listener.stop()
    clock = asyncio.get_running_loop().time
    begun = clock()
    while not hurry.is_set() and clock() < begun + server.drain_timeout_secs:
        await _wait(hurry, 0.05)  # first, for what was accepted in this very turn is no connection of the server yet
        if not state.connections and not listener.is_greeting:
            break
    if state.connections:
        limit = f"server.drain-timeout-secs ({server.drain_timeout_secs:g} s)"
        why = "a second signal came" if hurry.is_set() else limit
        log.warn(f"{len(state.connections)} connections are cut off: {why}")


async def _wait(hurry: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), seconds)
