"""The router's ports: the one for clients, and the control port where there is one."""

from __future__ import annotations

import asyncio

from fd_router.api.access import open_to_all
from fd_router.app.exposure import AnyListener
from fd_router.app.runtime import Runtime
from fd_router.app.serving import drain, handed_listener, make_listener, open_control
from fd_router.app.workers.seat import Seat
from fd_router.config.host_names import authority
from fd_router.errors import FdRouterError
from fd_router.http.dispatch import CONTROL, MAIN
from fd_router.http.listener import why_not_listening
from fd_router.http.server_context import ServerContext, ServerState
from fd_router.http.tls import ClientSide


class Ports:
    """Bound first and opened later: clients wait meanwhile, instead of being refused."""

    def __init__(
        self, runtime: Runtime, context: ServerContext, state: ServerState, tls: ClientSide, seat: Seat | None
    ) -> None:
        self._runtime = runtime
        self._context = context
        self._state = state
        self._tls = tls
        self._seat = seat
        self.main: AnyListener | None = None
        self.control: AnyListener | None = None  # for the router's own endpoints, where they have a port of their own

    async def bind(self) -> AnyListener:
        """Bind the clients' port, and open the control port where there is one. Raises FdRouterError."""
        context, tls, seat = self._context, self._tls.context, self._seat
        config, log = self._runtime.live.current, self._runtime.log
        if not config.access.control_port:
            self.main = self._bind_main(context)
            return self.main
        if seat is not None:
            self.control = handed_listener(config, context.for_admin_port(), tls, seat, CONTROL)
            await self.control.start()
        self.main = self._bind_main(context.with_routes(open_to_all(context.routes)))
        if seat is None:
            self.control = await open_control(config, context.for_admin_port(), tls, log)
        return self.main

    def _bind_main(self, context: ServerContext) -> AnyListener:
        config, seat = self._runtime.live.current, self._seat
        if seat is None:
            return make_listener(config, context, self._tls.context, self._runtime.log)
        listener = handed_listener(config, context, self._tls.context, seat, MAIN)
        listener.count = lambda: len(self._state.connections)
        return listener

    def announce(self) -> None:
        """Say where clients find the router; they wait there from now on, unless another one serves them so far.

        Raises FdRouterError.
        """
        server = self._runtime.live.current.server
        try:
            if self.main is not None and not self.main.takes_over:
                self.main.hold()
        except OSError as error:
            raise FdRouterError(why_not_listening(server.host, server.port, error)) from None
        self._runtime.log.info(f"Starting server on {authority(server.host, server.port)}")

    async def open(self) -> None:
        """Let clients in. Raises FdRouterError."""
        server = self._runtime.live.current.server
        try:
            if self.main is not None:
                await self.main.start()
        except OSError as error:
            raise FdRouterError(why_not_listening(server.host, server.port, error)) from None

    async def drain(self, hurry: asyncio.Event) -> None:
        """Take no more, and wait until what is under way is over, or until ``hurry``."""
        if self.main is not None:
            await drain(self._state, self.main, self._runtime.live, hurry, self._runtime.log)

    def close(self) -> None:
        """Close both."""
        for listener in (self.main, self.control):
            if listener is not None:
                listener.close()
