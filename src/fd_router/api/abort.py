"""``/v1/abort_requests``: ends running requests at the instances that work on them, and merges what those say."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from fd_router.errors import BadRequestError, UpstreamError
from fd_router.instances.instance import Instance
from fd_router.instances.log import Log
from fd_router.messages import Request, Response, Routes, json_response

GRACE_SECONDS = 0.25
"""How long an engine may take to end the answer of a request it has aborted; then the router ends it."""

_CHOICE = re.compile(r"_[0-9]+\Z")
"""What engines append to a request's id: the number of the choice."""


class Running(Protocol):
    """A request under way."""

    @property
    def request_id(self) -> str: ...
    def instances(self) -> tuple[Instance, ...]: ...
    def on_aborted(self) -> None: ...


class Requests(Protocol):
    """The requests under way, by the ids that engines know."""

    def find(self, request_id: str) -> Sequence[Running]: ...
    def all(self) -> Sequence[Running]: ...


Post = Callable[[Instance, str, bytes], Awaitable[tuple[int, bytes]]]
"""(instance, path, body) → status and body. Raises UpstreamError, also when it takes too long."""


class _Order(msgspec.Struct):
    req_ids: list[str] = []
    abort_all: bool = False


class _Reply(msgspec.Struct):
    """What one instance said. ``silent``: it did as it was told, without a word."""

    instance: Instance
    aborted: list[dict[str, Any]] = []
    silent: bool = False
    error: str = ""


class AbortApi:
    """The endpoint, over the instances of ``members()`` and the requests of ``in_flight``."""

    def __init__(self, members: Callable[[], Iterable[Instance]], in_flight: Requests, post: Post, *, log: Log) -> None:
        self._members = members
        self._in_flight = in_flight
        self._post = post
        self._log = log

    def routes(self) -> Routes:
        """Return the handler."""
        return {"/v1/abort_requests": {"POST": self._abort}}

    async def _abort(self, request: Request) -> Response:
        order = _decode(request.body)
        if order.abort_all:
            running = tuple(self._in_flight.all())
            orders = [(instance, b'{"abort_all":true}') for instance in self._members()]
        else:
            running = tuple(one for request_id in order.req_ids for one in self._in_flight.find(request_id))
            orders = self._orders(order.req_ids)
        waiting = [one for one in running if not one.instances()]
        for one in waiting:  # no instance knows of it yet
            one.on_aborted()
        replies = await asyncio.gather(*(self._tell(instance, body) for instance, body in orders))
        self._end(running, replies)
        result = _merge(order.req_ids, replies, [one.request_id for one in waiting])
        self._log.info(f"Aborted {len(result['aborted'])} requests, {len(result['not_found'])} not found")
        return json_response(200, _envelope(result, replies))

    def _orders(self, req_ids: Sequence[str]) -> list[tuple[Instance, bytes]]:
        """Tell a request's own instances of it, and all of the ids that aren't known here."""
        members = tuple(self._members())
        told: dict[str, tuple[Instance, list[str]]] = {}
        for request_id in dict.fromkeys(req_ids):
            known = self._in_flight.find(request_id)
            own = [instance for one in known for instance in one.instances()]
            for instance in own if known else members:
                ids = told.setdefault(instance.key, (instance, []))[1]
                if request_id not in ids:
                    ids.append(request_id)
        return [(instance, msgspec.json.encode({"req_ids": ids})) for instance, ids in told.values()]

    async def _tell(self, instance: Instance, body: bytes) -> _Reply:
        try:
            status, answer = await self._post(instance, "/v1/abort_requests", body)
        except UpstreamError as error:
            return _Reply(instance, error=error.detail)
        if status != 200:
            return _Reply(instance, error=f"status {status}")
        return _read_reply(instance, answer)

    def _end(self, running: Iterable[Running], replies: Iterable[_Reply]) -> None:
        """Let the clients of what was aborted know, if the engines don't tell them by an end of the answer."""
        confirmed = {reply.instance.key for reply in replies if not reply.error and (reply.silent or reply.aborted)}
        loop = asyncio.get_running_loop()
        for one in running:
            if any(instance.key in confirmed for instance in one.instances()):
                loop.call_later(GRACE_SECONDS, one.on_aborted)


def _decode(body: bytes) -> _Order:
    try:
        order = msgspec.json.decode(body, type=_Order)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None
    if not order.abort_all and not order.req_ids:
        raise BadRequestError("Either abort_all: true or a non-empty list req_ids is needed", code="nothing_to_abort")
    return order


def _read_reply(instance: Instance, answer: bytes) -> _Reply:
    if not answer.strip():
        return _Reply(instance, silent=True)
    try:
        value = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Reply(instance, error="the answer isn't JSON")
    if not isinstance(value, dict):
        return _Reply(instance, error="the answer is no object")
    if message := value.get("error_msg"):
        return _Reply(instance, error=str(message))
    result = value.get("result")
    if not isinstance(result, dict):
        return _Reply(instance, silent=True)
    aborted = result.get("aborted")
    entries = [entry for entry in aborted if isinstance(entry, dict)] if isinstance(aborted, list) else []
    return _Reply(instance, entries)


def _merge(req_ids: Sequence[str], replies: Sequence[_Reply], waited: Sequence[str]) -> dict[str, Any]:
    """What decode and mixed instances aborted counts; an id is unknown only when no instance knew it.

    ``waited`` are those of requests that no instance had.
    """
    known = {_bare(entry) for reply in replies for entry in reply.aborted} | set(waited)
    own = [{"request_id": request_id, "output_token_count": 0} for request_id in waited]
    told_nothing = any(reply.silent for reply in replies)
    return {
        "aborted": own + [e for r in replies if r.instance.registration.role != "prefill" for e in r.aborted],
        "not_found": [] if told_nothing else [one for one in dict.fromkeys(req_ids) if one not in known],
        "errors": [{"server": reply.instance.url, "error": reply.error} for reply in replies if reply.error],
    }


def _bare(entry: dict[str, Any]) -> str:
    return _CHOICE.sub("", str(entry.get("request_id", "")))


def _envelope(result: dict[str, Any], replies: Sequence[_Reply]) -> dict[str, Any]:
    all_failed = bool(replies) and all(reply.error for reply in replies)
    return {
        "request_id": f"control-{uuid.uuid4()}",
        "status": "error" if all_failed else "success",
        "error_msg": "no instance could be told" if all_failed else None,
        "result": result,
    }
