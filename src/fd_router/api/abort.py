"""``/v1/abort_requests``: ends running requests at the instances that work on them, and merges what those say."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Protocol

import msgspec

from fd_router.errors import BadRequestError, UpstreamError
from fd_router.http.messages import Request, Response, Routes, json_response
from fd_router.instances.instance import Instance
from fd_router.telemetry.contracts import Log

GRACE_SECONDS = 0.25
"""How long an engine may take to end the answer of a request it has aborted; then the router ends it."""

_CHOICE = re.compile(r"_[0-9]+\Z")
"""What engines append to a request's id: the number of the choice."""


class Running(Protocol):
    """A request under way."""

    @property
    def request_id(self) -> str: ...
    @property
    def engine_id(self) -> str: ...
    def instances(self) -> tuple[Instance, ...]: ...
    def on_aborted(self) -> None: ...


class Requests(Protocol):
    """The requests under way, by the ids that engines know."""

    def find(self, request_id: str) -> Sequence[Running]: ...
    def all(self) -> Sequence[Running]: ...


Post = Callable[[Instance, str, bytes], Awaitable[tuple[int, bytes]]]
"""(instance, path, body) → status and body. Raises UpstreamError, also when it takes too long."""


class _Order(msgspec.Struct):
    req_ids: list[str] | None = None
    abort_all: bool = False


class _Reply(msgspec.Struct):
    """What one instance said. ``silent``: it did as it was told, without a word."""

    instance: Instance
    aborted: list[dict[str, Any]] = []
    silent: bool = False
    error: str = ""

    @property
    def names(self) -> set[str]:
        """The ids of what it aborted: as it told them, and without what engines append."""
        told = {str(entry.get("request_id", "")) for entry in self.aborted}
        return told | {_CHOICE.sub("", name) for name in told}

    def confirms(self, engine_id: str) -> bool:
        """Whether it aborted this request."""
        return self.silent or engine_id in self.names


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
        ids = tuple(dict.fromkeys(order.req_ids or ()))
        known = {request_id: tuple(self._in_flight.find(request_id)) for request_id in ids}
        if order.abort_all:
            running = tuple(self._in_flight.all())
            orders = [(instance, b'{"abort_all":true}') for instance in self._members()]
        else:
            running = tuple(one for found in known.values() for one in found)
            orders = self._orders(known)
        names = {request_id: {request_id, *(one.engine_id for one in found)} for request_id, found in known.items()}
        waiting = [one for one in running if not one.instances()]
        for one in waiting:  # no instance knows of it yet
            one.on_aborted()
        replies = await asyncio.gather(*(self._tell(instance, body) for instance, body in orders))
        self._end(running, replies)
        result = _merge(names, replies, [one.request_id for one in waiting])
        self._log.info(f"Aborted {len(result['aborted'])} requests, {len(result['not_found'])} not found")
        return json_response(200, _envelope(result, replies))

    def _orders(self, known: Mapping[str, Sequence[Running]]) -> list[tuple[Instance, bytes]]:
        """Tell a request's own instances of it, by the id that they know, and all of the ids that aren't known here."""
        members = tuple(self._members())
        told: dict[str, tuple[Instance, list[str]]] = {}
        for request_id, found in known.items():
            own = [(instance, one.engine_id) for one in found for instance in one.instances()]
            for instance, engine_id in own if found else [(instance, request_id) for instance in members]:
                ids = told.setdefault(instance.key, (instance, []))[1]
                if engine_id not in ids:
                    ids.append(engine_id)
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
        """Let the clients of what was aborted know, if the engines don't tell them by an end of the answer.

        An instance that aborted one request may have refused another: each needs a word of its own.
        """
        told = {reply.instance.key: reply for reply in replies if not reply.error}
        loop = asyncio.get_running_loop()
        for one in running:
            own = [told[instance.key] for instance in one.instances() if instance.key in told]
            if any(reply.confirms(one.engine_id) for reply in own):
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


def _merge(names: Mapping[str, Set[str]], replies: Sequence[_Reply], waited: Sequence[str]) -> dict[str, Any]:
    """What decode and mixed instances aborted counts; an id is unknown only when no instance knew it.

    ``names`` are the ids that were asked for, each with those that engines may know it by; ``waited`` those of
    requests that no instance had.
    """
    known = set(waited).union(*(reply.names for reply in replies))
    own = [{"request_id": request_id, "output_token_count": 0} for request_id in waited]
    told_nothing = any(reply.silent for reply in replies)
    return {
        "aborted": own + [e for r in replies if r.instance.registration.role != "prefill" for e in r.aborted],
        "not_found": [] if told_nothing else [one for one, others in names.items() if not known & others],
        "errors": [{"server": reply.instance.url, "error": reply.error} for reply in replies if reply.error],
    }


def _envelope(result: dict[str, Any], replies: Sequence[_Reply]) -> dict[str, Any]:
    all_failed = bool(replies) and all(reply.error for reply in replies)
    return {
        "request_id": f"control-{uuid.uuid4()}",
        "status": "error" if all_failed else "success",
        "error_msg": "no instance could be told" if all_failed else None,
        "result": result,
    }
