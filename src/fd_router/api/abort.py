"""``/v1/abort_requests``: ends running requests at the instances that work on them, and merges what those say."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Protocol

import msgspec

from fd_router.api.orders import Orders
from fd_router.engines.dialect import AbortMessage, AbortReply
from fd_router.errors import UNREADABLE, BadRequestError, UpstreamError, place_of
from fd_router.http.messages import Request, Response, Routes, json_response
from fd_router.http.pace import Pace, gather_few, in_slices
from fd_router.instances.instance import Instance
from fd_router.telemetry.contracts import Log

MAX_IDS = 10_000
"""Ids in one call: more than a router has requests under way. Those that it doesn't know go to every instance."""

MAX_AT_ONCE = 16
"""Instances that are told at a time: a message of many ids to a thousand of them at once would hold the loop."""

GRACE_SECONDS = 0.25
"""How long an engine may take to end the answer of a request it has aborted; then the router ends it."""

NO_ENDPOINT = frozenset((404, 405, 501))
"""Statuses by which an instance says that it knows no such endpoint."""


class Running(Protocol):
    """A request under way."""

    @property
    def request_id(self) -> str: ...
    @property
    def engine_id(self) -> str: ...
    def instances(self) -> tuple[Instance, ...]: ...
    def on_abort_asked(self) -> None: ...
    def on_aborted(self) -> None: ...


class Requests(Protocol):
    """The requests under way, by the ids that engines or the log know."""

    def find_each(self, ids: Iterable[str]) -> Mapping[str, Sequence[Running]]: ...
    def all(self) -> Sequence[Running]: ...


Post = Callable[[Instance, AbortMessage, bytes], Awaitable[tuple[int, bytes]]]
"""(instance, message, the caller's Authorization) → status and body. Raises UpstreamError, also for taking too long."""

Credentials = Callable[[Request], bytes]
"""Returns what of a caller's Authorization instances may be shown."""


Others = Callable[[bytes], Awaitable[Iterable[bytes]]]
"""(body of the call) → what ``AbortApi.abort_here`` of each other router returned."""


class _Result(msgspec.Struct):
    """What another router did, as JSON."""

    aborted: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []


class _Order(msgspec.Struct):
    req_ids: list[str] | None = None
    abort_all: bool = False


class _Told(msgspec.Struct):
    """What one instance answered."""

    instance: Instance
    reply: AbortReply
    lacks_endpoint: bool = False

    def confirms(self, engine_id: str) -> bool:
        """Whether it aborted this request."""
        return self.reply.is_silent or engine_id in self.reply.ids

    def will_end(self, *, all_are_meant: bool) -> bool:
        """Whether a request that runs here, and that it didn't confirm, is to end with its connection.

        An instance that can't be told, or refuses, has an error: then the request goes on. One that knows nothing of
        the request may not have read it yet. When all are meant, such a one may have come after the call.
        """
        return not self.reply.error and (self.lacks_endpoint or not all_are_meant)


class AbortApi:
    """The endpoint, over the instances of ``members()`` and the requests of ``in_flight``."""

    def __init__(
        self,
        members: Callable[[], Iterable[Instance]],
        in_flight: Requests,
        post: Post,
        *,
        credentials: Credentials,
        log: Log,
        others: Others | None = None,
    ) -> None:
        """``others``: has other routers abort what is theirs; None: there are none."""
        self._others = others
        self._members = members
        self._in_flight = in_flight
        self._post = post
        self._credentials = credentials
        self._log = log
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._orders = Orders()

    def routes(self) -> Routes:
        """Return the handler."""
        return {"/v1/abort_requests": {"POST": self._abort}}

    async def _abort(self, request: Request) -> Response:
        return await self._orders.carry_out(self._abort_all(request))

    async def _abort_all(self, request: Request) -> Response:
        order = _decode(request.body)
        elsewhere = asyncio.ensure_future(self._others(request.body)) if self._others is not None else None
        known = self._in_flight.find_each(order.req_ids or ())
        result, told = await self._carry_out(order, known, self._credentials(request))
        for answer in await elsewhere if elsewhere is not None else ():
            _add(result, msgspec.json.decode(answer, type=_Result))
        self._log.info(f"Aborted {len(result['aborted'])} requests, {len(result['not_found'])} not found")
        return json_response(200, _envelope(result, told))

    async def abort_here(self, body: bytes) -> bytes:
        """Do what another router was asked for with the requests that are this one's. Returns the result, as JSON."""
        order = _decode(body)
        found = self._in_flight.find_each(order.req_ids or ())
        known = {request_id: running for request_id, running in found.items() if running}
        if not known and not order.abort_all:
            return b"{}"
        result, _ = await self._carry_out(order, known, b"")
        return msgspec.json.encode(result)

    async def _carry_out(
        self, order: _Order, known: Mapping[str, Sequence[Running]], shown: bytes
    ) -> tuple[dict[str, Any], Sequence[_Told]]:
        """Abort what is meant. ``known``: the ids that are asked for, with the requests that have them here."""
        if order.abort_all:
            running = tuple(self._in_flight.all())
            messages = await self._messages({}, None)
        else:
            running = tuple(one for found in known.values() for one in found)
            messages = await self._messages(*_split(known))
        here = frozenset(self._in_flight.all())
        running = tuple(one for one in running if one in here)  # some may have ended meanwhile
        names = {request_id: {request_id, *(one.engine_id for one in found)} for request_id, found in known.items()}
        askable = {instance.key for instance, todo in messages if todo}
        ended = [
            one
            for one in running
            if not (order.abort_all or one.engine_id)
            or not any(instance.key in askable for instance in one.instances())
        ]
        for one in running:  # what their instances say from now on is no reason to go on elsewhere
            one.on_abort_asked()
        pace = Pace()
        # No instance knows of these, or of their ids, or those that do know no abort but a connection's end.
        for one in ended:
            one.on_aborted()
            await pace.breathe()
        told = await gather_few(
            lambda one: self._tell(*one, shown), ((instance, todo) for instance, todo in messages if todo), MAX_AT_ONCE
        )
        left = frozenset(self._in_flight.all()).difference(ended)
        running = tuple(one for one in running if one in left)
        ended += await self._end(running, told, all_are_meant=order.abort_all)
        result = _merge(names, told, [one.request_id for one in ended], {one.request_id for one in running})
        return result, told

    async def _messages(
        self, own: Mapping[str, tuple[Instance, Sequence[str]]], others: Sequence[str] | None
    ) -> list[tuple[Instance, Sequence[AbortMessage]]]:
        """Return what to send to whom: to each instance its own ids, and to all members the ``others`` (None: all).

        What is for all is written once for each dialect, however many instances there are.
        """
        pace = Pace()
        for_all: dict[int, Sequence[AbortMessage]] = {}
        messages: dict[str, tuple[Instance, Sequence[AbortMessage]]] = {}
        for instance in self._members() if others is None or others else ():
            await pace.breathe()
            key = id(instance.dialect)
            if key not in for_all:
                for_all[key] = self._written_for(instance, others)
            messages[instance.key] = instance, for_all[key]
        for instance, ids in own.values():
            await pace.breathe()
            before = messages.get(instance.key, (instance, ()))[1]
            messages[instance.key] = instance, (*self._written_for(instance, ids), *before)
        return [*messages.values()]

    def _written_for(self, instance: Instance, ids: Sequence[str] | None) -> Sequence[AbortMessage]:
        """Have its dialect write the messages; of one that fails, requests end with their connections."""
        dialect = instance.dialect
        try:
            return tuple(dialect.abort(ids))
        except Exception as error:  # noqa: BLE001  a third party's: the other instances are to be told all the same
            self._log.error(f"The dialect {dialect.name} failed in abort: {place_of(error)}")
            return ()

    def _read(self, instance: Instance, answer: bytes) -> AbortReply:
        dialect = instance.dialect
        try:
            return dialect.read_abort(answer)
        except Exception as error:  # noqa: BLE001  as above
            what = f"the dialect {dialect.name} failed in read_abort: {place_of(error)}"
            self._log.error(f"{instance.url}: {what}")
            return AbortReply(error=what)

    async def _tell(self, instance: Instance, messages: Sequence[AbortMessage], shown: bytes) -> _Told:
        """Send an instance one message after the other, as long as it takes them."""
        replies = []
        for message in messages:
            try:
                async with self._slots:
                    status, answer = await self._post(instance, message, shown)
            except UpstreamError as error:
                return _Told(instance, AbortReply(error=error.detail))
            if status in NO_ENDPOINT or status in instance.dialect.abort_closed_statuses:
                return _Told(instance, AbortReply(), lacks_endpoint=True)
            reply = self._read(instance, answer) if status == 200 else AbortReply(error=f"status {status}")
            if reply.error:
                return _Told(instance, reply)
            replies.append(reply)
        return _Told(instance, replies[0] if len(replies) == 1 else _joined(replies))

    async def _end(self, running: Iterable[Running], replies: Iterable[_Told], *, all_are_meant: bool) -> list[Running]:
        """Let the clients of what was aborted know, if the engines don't tell them by an end of the answer.

        An instance that aborted one request may not know another: that ends with its connection. Returns those.
        """
        pace = Pace()
        told = {one.instance.key: one for one in replies}
        ended, confirmed = [], []
        for one in running:
            await pace.breathe()
            own = [told[instance.key] for instance in one.instances() if instance.key in told]
            if any(not reply.reply.error and reply.confirms(one.engine_id) for reply in own):
                confirmed.append(one)
            elif all(reply.will_end(all_are_meant=all_are_meant) for reply in own):
                one.on_aborted()
                ended.append(one)
        later = asyncio.get_running_loop().call_later
        later(GRACE_SECONDS, in_slices, _abort_each(confirmed), later)
        return ended


def _abort_each(requests: Iterable[Running]) -> Iterator[None]:
    """Abort one after the other; yields where others may have a turn."""
    for one in requests:
        one.on_aborted()
        yield


def _decode(body: bytes) -> _Order:
    try:
        order = msgspec.json.decode(body, type=_Order)
    except UNREADABLE as error:
        raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None
    if len(order.req_ids or ()) > MAX_IDS:
        raise BadRequestError(
            f"req_ids has {len(order.req_ids or ())} ids; at most {MAX_IDS} a call, or abort_all", code="too_many_ids"
        )
    if not order.abort_all and not order.req_ids:
        raise BadRequestError("Either abort_all: true or a non-empty list req_ids is needed", code="nothing_to_abort")
    return order


def _split(
    known: Mapping[str, Sequence[Running]],
) -> tuple[dict[str, tuple[Instance, Sequence[str]]], Sequence[str]]:
    """Return the ids that a request's own instances know, by instance, and the ids that aren't known here."""
    told: dict[str, tuple[Instance, dict[str, None]]] = {}
    for found in known.values():
        for one in found:
            for instance in one.instances() if one.engine_id else ():
                told.setdefault(instance.key, (instance, {}))[1][one.engine_id] = None
    own: dict[str, tuple[Instance, Sequence[str]]] = {
        key: (instance, tuple(ids)) for key, (instance, ids) in told.items()
    }
    return own, [request_id for request_id, found in known.items() if not found]


def _joined(replies: Sequence[AbortReply]) -> AbortReply:
    """Join what an instance answered to several messages."""
    return AbortReply(
        [entry for reply in replies for entry in reply.aborted],
        frozenset().union(*(reply.ids for reply in replies)),
        is_silent=any(reply.is_silent for reply in replies),
    )


def _merge(
    names: Mapping[str, Set[str]], replies: Sequence[_Told], ended: Sequence[str], running: Set[str]
) -> dict[str, Any]:
    """What decode and mixed instances aborted counts; an id is unknown only when no instance knew it.

    ``names`` are the ids that were asked for, each with those that engines may know it by; ``ended`` those of
    requests that ended here, ``running`` of those that go on.
    """
    known = {*ended, *running}.union(*(one.reply.ids for one in replies))
    own = [{"request_id": request_id, "output_token_count": 0} for request_id in ended]
    told_nothing = any(one.reply.is_silent for one in replies)
    counting = [one.reply for one in replies if one.instance.registration.role != "prefill"]
    return {
        "aborted": own + [entry for reply in counting for entry in reply.aborted],
        "not_found": [] if told_nothing else [one for one, others in names.items() if not known & others],
        "errors": [{"server": one.instance.url, "error": one.reply.error} for one in replies if one.reply.error],
    }


def _add(result: dict[str, Any], other: _Result) -> None:
    """Take in what another router did: an id that is known there is no unknown one; nothing is told twice."""
    known = {one["request_id"] for one in result["aborted"]}
    result["aborted"] += [one for one in other.aborted if one.get("request_id") not in known]
    found = {one.get("request_id") for one in other.aborted}
    result["not_found"] = [one for one in result["not_found"] if one not in found]
    servers = {one["server"] for one in result["errors"]}
    result["errors"] += [one for one in other.errors if one.get("server") not in servers]


def _envelope(result: dict[str, Any], replies: Sequence[_Told]) -> dict[str, Any]:
    all_failed = bool(replies) and all(one.reply.error for one in replies)
    return {
        "request_id": f"control-{uuid.uuid4()}",
        "status": "error" if all_failed else "success",
        "error_msg": "no instance could be told" if all_failed else None,
        "result": result,
    }
