"""Requests that the router answers itself: a handler's coroutine in a task that ends with its client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fd_router.errors import HttpError
from fd_router.messages import Handler, Request, Response, error_response
from fd_router.telemetry.log import RouterLog

Respond = Callable[[Response], None]


class ControlAnswer:
    """One request on the control path, being answered."""

    __slots__ = ("_respond", "_task")

    def __init__(self, handler: Handler, request: Request, respond: Respond, log: RouterLog) -> None:
        self._respond = respond
        self._task = asyncio.get_running_loop().create_task(self._answer(handler, request, log))

    async def _answer(self, handler: Handler, request: Request, log: RouterLog) -> None:
        try:
            response = await handler(request)
        except HttpError as error:
            response = error_response(error)
        except Exception as error:  # noqa: BLE001  # a bug in one endpoint must not take a connection's answer with it
            what = f"{request.head.method} {request.head.path}"
            log.error(f"{what} failed in the router: {type(error).__name__}: {error}")
            response = error_response(HttpError("Internal server error: see the router's log"))
        self._respond(response)

    def on_client_gone(self) -> None:
        """Nobody waits for the answer any more."""
        self._task.cancel()

    def on_client_full(self) -> None:
        """Answers are small: nothing to hold back."""

    def on_client_drained(self) -> None:
        """Nothing was held back."""
