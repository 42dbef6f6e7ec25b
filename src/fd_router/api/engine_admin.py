"""Engines' paths for admins (``/flush_cache``, ``/pause``, ``/sleep``): told to all instances, answers side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from fd_router.api.orders import Orders
from fd_router.errors import UNREADABLE, NoInstanceError, UpstreamError
from fd_router.http.messages import Request, Response, Routes, json_response
from fd_router.http.pace import gather_few
from fd_router.instances.instance import Instance
from fd_router.openai.kinds.engine_admin import FAN_OUT
from fd_router.telemetry.contracts import Log

MAX_AT_ONCE = 16
"""Instances that are told at a time."""

MAX_SHOWN = 10_000
"""Characters of an answer that isn't JSON."""

Tell = Callable[[Instance, Request], Awaitable[tuple[int, bytes]]]
"""(instance, request) → status and body of its answer. Raises UpstreamError."""


class EngineAdminApi:
    """The endpoints, over the instances of ``members()``, whatever their health."""

    def __init__(self, members: Callable[[], Iterable[Instance]], tell: Tell, *, log: Log) -> None:
        self._members = members
        self._tell = tell
        self._log = log
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._orders = Orders()

    def routes(self) -> Routes:
        """Return the handlers."""
        return {path: dict.fromkeys(methods, self._fan_out) for path, methods in FAN_OUT.items()}

    async def _fan_out(self, request: Request) -> Response:
        return await self._orders.carry_out(self._tell_all(request))

    async def _tell_all(self, request: Request) -> Response:
        members = tuple(self._members())
        if not members:
            raise NoInstanceError("There is no instance to be told: none is registered")
        told = await gather_few(lambda instance: self._ask(instance, request), members, MAX_AT_ONCE)
        failed = sum(not 200 <= entry["status"] < 300 for entry in told)
        head = request.head
        self._log.info(f"{head.method} {head.path} told to {len(told)} instances, {failed} failed")
        outcome = "success" if not failed else "error" if failed == len(told) else "partial"
        return json_response(502 if failed else 200, {"status": outcome, "instances": told})

    async def _ask(self, instance: Instance, request: Request) -> dict[str, Any]:
        try:
            async with self._slots:
                status, body = await self._tell(instance, request)
        except UpstreamError as error:
            return {"url": instance.url, "status": error.status, "error": error.detail}
        return {"url": instance.url, "status": status, "answer": _readable(body)}


def _readable(body: bytes) -> Any:
    """Return the JSON value of an answer, or its text."""
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        return body[:MAX_SHOWN].decode("utf-8", "replace")
