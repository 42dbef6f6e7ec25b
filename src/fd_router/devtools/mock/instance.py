"""A mock instance: a real HTTP server that behaves like a FastDeploy one, with an engine model behind it.

Beside an instance's own endpoints it has some for tests: ``GET /mock/requests`` (what came, in order; ``DELETE``
forgets it), ``GET`` and ``POST /mock/faults`` (``{"faults": ["slow:token_secs=0.1", …]}`` replaces those that are
on) and ``GET /mock/state``.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from fd_router.config.host_names import authority
from fd_router.devtools.engine_model.engine import Engine
from fd_router.devtools.mock.abort_answer import AbortOrder, aborted_answer
from fd_router.devtools.mock.answers import Handle, decoded, injected, not_allowed, respond, respond_error, try_handle
from fd_router.devtools.mock.completions import DEFAULT_MAX_TOKENS, Body, Ids, Words, given_tokens, ids_of, prompt_of
from fd_router.devtools.mock.continuation import beginning_of, told_ids
from fd_router.devtools.mock.engines import Load, engine_routes
from fd_router.devtools.mock.faults import COMPLETION_PATHS, Fault, FaultInjector, FaultsBody, parse_fault
from fd_router.devtools.mock.generation import EngineDriver, Generation, GenerationStats
from fd_router.devtools.mock.heartbeat import Heartbeat, registration
from fd_router.devtools.mock.http_server import Call, MockServer
from fd_router.devtools.mock.kinds import reading
from fd_router.devtools.mock.kinds.generating import KINDS, GeneratingKind
from fd_router.devtools.mock.kinds.responses import KeptResponses
from fd_router.devtools.mock.kv_publisher import KvPublisher
from fd_router.devtools.mock.options import MockOptions
from fd_router.devtools.mock.pd.roles import PairRole, PairTicket, make_role
from fd_router.devtools.mock.request_log import RequestLog
from fd_router.errors import BadRequestError
from fd_router.http.handlers import find_route

REFUSE_SECS = 5.0
"""How long a ``refuse`` fault lasts unless it says: with nobody listening, nobody can call it off."""

_GARBAGE = b"\x16\x03\x01 this is not HTTP \x00\xff\r\n\r\n"

DUPLICATE_TURNS = 5
"""How often it is looked again whether an id is still running: one that is just being cancelled comes with its
successor, on another connection, and a busy loop may read that one first. Between two looks it reads them all."""

_TURN_SECS = 0.01


class MockInstance:
    """The instance. ``await start()`` serves until ``await stop()``; ``log`` gets lines about its registration.

    Raises BadRequestError when built with a fault that can't be understood.
    """

    def __init__(self, options: MockOptions, log: Callable[[str], None] = lambda _: None) -> None:
        self._options = options
        self._log = log
        self._faults = FaultInjector([parse_fault(spec) for spec in options.fault], random.Random(options.seed))
        self._requests = RequestLog(options.record, bodies=options.record_bodies)
        self._stats = GenerationStats()
        self._responses = KeptResponses()
        self._server = MockServer(self._handle, self._refuse, options.keep_alive_secs)
        self._routes = self._make_routes()
        self._fault_timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._heartbeat: Heartbeat | None = None
        self._pd: PairRole | None = None
        self._connector: MockServer | None = None  # when KV caches are handed over at a port of their own
        self._kv: KvPublisher | None = None
        self._driver: EngineDriver
        self.name = options.name
        self._words: Words
        self._ids: Ids

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    def url(self) -> str:
        """``http://HOST:PORT``."""
        return f"http://{authority(self._options.host, self.port)}"

    async def start(self) -> None:
        """Listen, apply the first faults, begin to register. Raises OSError when the port is taken."""
        self._driver = EngineDriver(Engine(self._options.engine))
        if self._options.kv_events_port:
            self._kv = KvPublisher(self._options, self._faults.loses_kv_events)
            self._driver.engine.cache = self._kv.new_cache()
        await self._server.open(self._options.host, self._options.port)
        self.name = self._options.name or f"mock-{self.port}"
        self._words = Words(self.name)
        self._ids = Ids(self.name)
        await self._take_role()
        self._apply_standing_faults()
        if self._options.router:
            self._heartbeat = Heartbeat(self._options, self.port, self.is_healthy, self._log)
            self._spawn(self._heartbeat.run())

    async def _take_role(self) -> None:
        options = self._options
        self._pd = role = make_role(options, registration(options, self.port), self._log)
        if role is not None:
            self._routes = {**self._routes, **role.routes()}
        if options.connector_port not in {0, self.port}:
            self._connector = MockServer(self._handle, self._refuse, options.keep_alive_secs)
            await self._connector.open(options.host, options.connector_port)

    async def stop(self) -> None:
        """End everything at once, running requests too."""
        for timer in self._fault_timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.close()
        if self._connector is not None:
            self._connector.close()
        if self._pd is not None:
            self._pd.close()
        self._driver.close()
        if self._kv is not None:
            self._kv.close()
        await asyncio.sleep(0)  # for the connections' last callbacks

    # Serving.

    def _make_routes(self) -> Mapping[str, Mapping[str, Handle]]:
        reads = {"POST": functools.partial(reading.answer, model=self._options.model)}
        return {
            **{path: {"POST": functools.partial(self._complete, kind=kind)} for path, kind in KINDS.items()},
            **dict.fromkeys(reading.READERS, reads),
            **self._responses.routes(),
            "/v1/abort_requests": {"POST": self._abort},
            "/v1/models": {"GET": self._models},
            "/health": {"GET": self._health},
            "/mock/requests": {"GET": self._show_requests, "DELETE": self._forget_requests},
            "/mock/faults": {"GET": self._show_faults, "POST": self._change_faults},
            "/mock/state": {"GET": lambda call: respond(call, self.state())},
            **engine_routes(self._options.dialect, self),
        }

    def _handle(self, call: Call, connection: int) -> None:
        request = call.request
        is_test = request.path.startswith("/mock/")
        if not is_test:
            self._requests.add(request, connection)
        methods = self._routes.get(find_route(self._routes, request.path))
        if methods is None:
            respond_error(call, BadRequestError(f"no such path: {request.path}", status=404))
            return
        handle = methods.get(request.method)
        if handle is None:
            respond_error(call, not_allowed(request.method, methods))
            return
        if is_test or request.path in COMPLETION_PATHS:  # a completion's fault depends on its body
            try_handle(handle, call)
        else:
            self._strike_then(call, handle)

    def _refuse(self, call: Call) -> None:
        respond_error(call, BadRequestError("Invalid HTTP request"))

    def _strike_then(self, call: Call, handle: Handle) -> None:
        fault = self._faults.strike(call.request.path, stream=False)
        if fault is None or not self._break(call, fault):
            if fault is not None and fault.head_secs:
                asyncio.get_running_loop().call_later(fault.head_secs, try_handle, handle, call)
            else:
                try_handle(handle, call)

    def _break(self, call: Call, fault: Fault, pairing: PairTicket | None = None) -> bool:
        """Do what ``fault`` does before any answer; False when the request goes on."""
        if fault.kind == "reset_before_head":
            call.drop(reset=True)
        elif fault.kind == "hang_before_head":
            call.on_gone = functools.partial(self._count_disconnect, pairing)
            return True
        elif fault.kind == "garbage":
            call.raw(_GARBAGE)
            call.drop(reset=False)
        elif fault.kind == "status":
            respond_error(call, injected(fault.status))
        else:
            call.close_silently = fault.kind == "close_idle"
            return False
        self._forget(pairing)
        return True

    def _count_disconnect(self, pairing: PairTicket | None) -> None:
        self._stats.disconnected += 1
        self._forget(pairing)

    def _forget(self, pairing: PairTicket | None) -> None:
        if self._pd is not None and pairing is not None:
            self._pd.forget(pairing)

    def _complete(self, call: Call, kind: GeneratingKind) -> None:
        body = kind.parse(call.request.body)
        if self._options.only_model and body.model != self._options.model:
            message = f"The model `{body.model}` does not exist."
            raise BadRequestError(message, status=404, code="model_not_found")
        if kind is KINDS["/v1/responses"]:
            self._responses.check_previous(call.request.body)
        pairing = self._pd.read(body, call) if self._pd is not None else None
        self._complete_once(call, body, pairing, kind, turns=DUPLICATE_TURNS)

    def _is_running(self, request_id: str) -> bool:
        return request_id in self._stats.ids

    def _complete_once(
        self, call: Call, body: Body, pairing: PairTicket | None, kind: GeneratingKind, *, turns: int
    ) -> None:
        if pairing is not None and self._pd is not None and self._is_running(pairing.request_id):
            if not turns:
                raise self._pd.refuse_duplicate(pairing.request_id)
            later = functools.partial(self._complete_once, body=body, pairing=pairing, kind=kind, turns=turns - 1)
            asyncio.get_running_loop().call_later(_TURN_SECS, try_handle, later, call)
            return
        if call.is_gone:
            return
        fault = self._faults.strike(call.request.path, body.stream is True)
        if fault is not None and self._break(call, fault, pairing):
            return
        self._generation(call, body, fault, pairing, kind).begin()

    def _generation(
        self, call: Call, body: Body, fault: Fault | None, pairing: PairTicket | None, kind: GeneratingKind
    ) -> Generation:
        options = self._options
        request_id = "" if body.request_id is None else str(body.request_id)
        response_id = self._ids.response_id(request_id, kind.prefix)
        given = given_tokens(body)
        beginning = beginning_of(body, self._words, kind.protocol)
        if beginning.flaw:
            self._stats.misfits += 1
            self._log(f"continuation: {beginning.flaw}")
        limit = given + 1 if options.role == "prefill" else body.limit or max(1, DEFAULT_MAX_TOKENS - beginning.tokens)
        model, prompt = body.model or options.model, prompt_of(body, options.block_size, options.hash_id_tokens)
        if self._kv is not None and body.mock_hash_ids is None:
            self._kv.learn(prompt.blocks, ids_of(body))
        if kind is KINDS["/v1/responses"]:
            self._responses.keep(response_id, model)
        arguments = (call, kind.make_answer(response_id, model, prompt), self._words, self._driver, self._stats)
        details: dict[str, Any] = {
            "prompt": prompt,
            "max_tokens": limit,
            "reason": "stop" if body.limit is None else "length",
            "stream": body.stream is True,
            "usage_wanted": kind.tells_usage or (body.stream_options is not None and body.stream_options.include_usage),
            "engine_id": request_id or response_id,
            "fault": fault,
            "given": given,
            "behind": beginning.tokens,
            "thoughts": options.thinking_tokens if kind.protocol == "chat" and body.thinks else 0,
            "told": told_ids(body, options.dialect, prompt.tokens, chat=kind.protocol == "chat")
            if kind.protocol
            else None,
        }
        if self._pd is not None and pairing is not None:
            return self._pd.generation(pairing, *arguments, **details)
        return Generation(*arguments, **details)

    # An instance's other endpoints.

    def _abort(self, call: Call) -> None:
        wanted = decoded(call, AbortOrder)
        if not wanted.abort_all and not wanted.req_ids:
            raise BadRequestError("either req_ids or abort_all is required")
        names = None if wanted.abort_all else wanted.req_ids or []
        chosen = self.abort_named(names)
        respond(call, aborted_answer(self._ids.response_id("", "control-"), names, chosen))

    def _models(self, call: Call) -> None:
        model = {
            "id": self._options.model,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "fd-router mock",
        }
        respond(call, {"object": "list", "data": [model]})

    def _health(self, call: Call) -> None:
        healthy = self.is_healthy()
        respond(call, {"status": "healthy" if healthy else "unhealthy"}, status=200 if healthy else 503)

    # What its engine's own endpoints ask.

    def load(self) -> Load:
        """Tell what there is to do."""
        engine, options = self._driver.engine, self._options
        free = max(0, options.cache_tokens - engine.running_tokens) // options.block_size
        return Load(
            engine.running, engine.waiting, free, options.cache_tokens // options.block_size, options.block_size
        )

    def kv_events_port(self) -> int:
        """Tell where its KV events are published, 0: nowhere."""
        return self._options.kv_events_port

    def flush_cache(self) -> None:
        """Forget all prefixes."""
        self._driver.engine.cache.clear()

    def abort_named(self, names: list[str] | None) -> list[Generation]:
        """Abort the requests with these ids, None: all. Returns them."""
        chosen = [each for each in self._stats.live if names is None or any(map(each.is_named, names))]
        for each in chosen:
            each.abort()
        return chosen

    # For tests.

    def requests(self) -> list[dict[str, Any]]:
        """Return the last requests, oldest first, as ``GET /mock/requests`` does."""
        entries: list[dict[str, Any]] = self._requests.describe()["requests"]
        return entries

    def set_faults(self, *specs: str | dict[str, Any]) -> None:
        """Replace the faults that are on. Raises BadRequestError when one can't be understood."""
        self._faults.replace([parse_fault(spec) for spec in specs])
        self._apply_standing_faults()

    def state(self) -> dict[str, Any]:
        """Return what ``GET /mock/state`` shows."""
        engine, stats = self._driver.engine, self._stats
        connections = self._server.connections
        return {
            "name": self.name,
            "role": self._options.role,
            "registered": self._heartbeat is not None and self._heartbeat.is_registered,
            "running": engine.running,
            "waiting": engine.waiting,
            "live": len(stats.live),
            "finished": stats.finished,
            "first_tokens": self._driver.first_tokens,
            "ttft_secs": self._driver.ttft_secs,
            "disconnected": stats.disconnected,
            "aborted": stats.aborted,
            "misfits": stats.misfits,
            "struck": self._faults.struck,
            "in_flight": sum(each.serves in COMPLETION_PATHS for each in connections),
            "connections": len(connections),
            "accepted": self._server.accepted,
            "unsent_bytes": sum(each.transport.get_write_buffer_size() for each in connections),
            **(self._pd.describe() if self._pd is not None else {}),
            "cache": {"blocks": len(engine.cache), "tokens": engine.cache.used_tokens},
        }

    def _show_requests(self, call: Call) -> None:
        respond(call, self._requests.describe())

    def _forget_requests(self, call: Call) -> None:
        self._requests.clear()
        self._show_requests(call)

    def _show_faults(self, call: Call) -> None:
        respond(call, {"faults": self._faults.describe(), "struck": self._faults.struck})

    def _change_faults(self, call: Call) -> None:
        self.set_faults(*decoded(call, FaultsBody).faults)
        self._show_faults(call)

    # Faults that stand for a time.

    def is_healthy(self) -> bool:
        """Whether it says so."""
        return self._faults.find("unhealthy") is None

    def _apply_standing_faults(self) -> None:
        for timer in self._fault_timers:
            timer.cancel()
        self._fault_timers.clear()
        refuse, unhealthy = self._faults.find("refuse"), self._faults.find("unhealthy")
        if self._faults.find("kv_restart") is not None and self._kv is not None:
            self._faults.turn_off("kv_restart")
            self._driver.engine.cache = self._kv.restart()
        loop = asyncio.get_running_loop()
        if refuse is None:
            self._listen_again()
        else:
            self._server.stop_listening()
            secs = REFUSE_SECS if refuse.secs is None else refuse.secs
            self._fault_timers.append(loop.call_later(secs, self._listen_again))
        if unhealthy is not None and unhealthy.secs is not None:
            self._fault_timers.append(loop.call_later(unhealthy.secs, self._faults.turn_off, "unhealthy"))

    def _listen_again(self) -> None:
        self._faults.turn_off("refuse")
        self._spawn(self._server.listen_again())

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __repr__(self) -> str:
        return f"<MockInstance {self.name} {self._options.role} at {self.url}>"
