"""Requests that the router answers itself: a handler's coroutine in a task that ends with its client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from fd_router.errors import HttpError
from fd_router.http.messages import Handler, Request, Response, error_response
from fd_router.telemetry.contracts import Log

Respond = Callable[[Response], None]


def find_route(routes: Mapping[str, object], path: str) -> str:
    """Return the key of ``routes`` that ``path`` fits, ``""`` for none.

    A key may have a segment in braces, which any one segment fits: ``/instances/{key}/drain``; with a plus, as its last
    one, all that follow: ``/v1/models/{model+}``. A plain key wins.
    """
    if path in routes:
        return path
    segments = path.split("/")
    for template in routes:
        plain, brace, _ = template.partition("{")
        if brace and path.startswith(plain) and _fits(template.split("/"), segments):
            return template
    return ""


def _fits(template: list[str], segments: list[str]) -> bool:
    if template[-1].endswith("+}") and len(segments) > len(template):
        segments = [*segments[: len(template) - 1], "/".join(segments[len(template) - 1 :])]
    if len(template) != len(segments):
        return False
    return all(want == given or (want[:1] == "{" and given) for want, given in zip(template, segments, strict=True))


class HandlerTask:
    """One request on the control path, being answered."""

    __slots__ = ("_respond", "_task")

    def __init__(self, handler: Handler, request: Request, respond: Respond, log: Log) -> None:
        self._respond = respond
        self._task = asyncio.get_running_loop().create_task(self._answer(handler, request, log))

    async def _answer(self, handler: Handler, request: Request, log: Log) -> None:
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

    def on_write_paused(self) -> None:
        """Answers are small: nothing to hold back."""

    def on_write_resumed(self) -> None:
        """Nothing was held back."""
