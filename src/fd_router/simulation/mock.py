"""A mock instance: a real HTTP server that behaves like a FastDeploy one, with an engine model behind it.

Beside an instance's own endpoints it has some for tests: ``GET /mock/requests`` (what came, in order; ``DELETE``
forgets it), ``GET`` and ``POST /mock/faults`` (``{"faults": ["slow:token_secs=0.1", …]}`` replaces those that are
on) and ``GET /mock/state``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import uvloop

from fd_router.errors import BadRequestError, HttpError
from fd_router.messages import error_response
from fd_router.simulation.completions import DEFAULT_MAX_TOKENS, Answer, Body, Ids, Words, parse_body, prompt_of
from fd_router.simulation.engine import Engine
from fd_router.simulation.faults import COMPLETION_PATHS, Fault, FaultBox, parse_fault
from fd_router.simulation.generation import EngineDriver, Generation, Tally, request_headers
from fd_router.simulation.heartbeat import Heartbeat
from fd_router.simulation.mock_http import Call, MockServer
from fd_router.simulation.options import MockOptions
from fd_router.simulation.request_log import RequestLog

REFUSE_SECS = 5.0
"""How long a ``refuse`` fault lasts unless it says: with nobody listening, nobody can call it off."""

_GARBAGE = b"\x16\x03\x01 this is not HTTP \x00\xff\r\n\r\n"

Handle = Callable[[Call], None]
T = TypeVar("T")


class _AbortBody(msgspec.Struct):
    req_ids: list[str] | None = None
    abort_all: bool = False


class _FaultsBody(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[str | dict[str, Any]]


class MockInstance:
    """The instance. ``await start()`` serves until ``await stop()``; ``log`` gets lines about its registration.

    Raises BadRequestError when built with a fault that can't be understood.
    """

    def __init__(self, options: MockOptions, log: Callable[[str], None] = lambda _: None) -> None:
        self._options = options
        self._log = log
        self._faults = FaultBox([parse_fault(spec) for spec in options.fault], random.Random(options.seed))
        self._requests = RequestLog(options.record)
        self._tally = Tally()
        self._server = MockServer(self._handle, self._refuse, options.keep_alive_secs)
        self._routes = self._make_routes()
        self._fault_timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._heartbeat: Heartbeat | None = None
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
        host = self._options.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen, apply the first faults, begin to register. Raises OSError when the port is taken."""
        self._driver = EngineDriver(Engine(self._options.engine))
        await self._server.open(self._options.host, self._options.port)
        self.name = self._options.name or f"mock-{self.port}"
        self._words = Words(self.name)
        self._ids = Ids(self.name)
        self._apply_standing_faults()
        if self._options.router:
            self._heartbeat = Heartbeat(self._options, self.port, self._is_healthy, self._log)
            self._spawn(self._heartbeat.run())

    async def stop(self) -> None:
        """End everything at once, running requests too."""
        for timer in self._fault_timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.close()
        self._driver.close()
        await asyncio.sleep(0)  # for the connections' last callbacks

    # Serving.

    def _make_routes(self) -> Mapping[str, Mapping[str, Handle]]:
        return {
            "/v1/chat/completions": {"POST": lambda call: self._complete(call, chat=True)},
            "/v1/completions": {"POST": lambda call: self._complete(call, chat=False)},
            "/v1/abort_requests": {"POST": self._abort},
            "/v1/models": {"GET": self._models},
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._metrics},
            "/mock/requests": {"GET": self._show_requests, "DELETE": self._forget_requests},
            "/mock/faults": {"GET": self._show_faults, "POST": self._set_faults},
            "/mock/state": {"GET": self._show_state},
        }

    def _handle(self, call: Call, connection: int) -> None:
        request = call.request
        is_test = request.path.startswith("/mock/")
        if not is_test:
            self._requests.add(request, connection)
        methods = self._routes.get(request.path)
        if methods is None:
            _respond_error(call, BadRequestError(f"no such path: {request.path}", status=404))
            return
        handle = methods.get(request.method)
        if handle is None:
            _respond_error(call, _not_allowed(request.method, methods))
            return
        if is_test or request.path in COMPLETION_PATHS:  # a completion's fault depends on its body
            _try(handle, call)
        else:
            self._strike_then(call, handle)

    def _refuse(self, call: Call) -> None:
        _respond_error(call, BadRequestError("Invalid HTTP request"))

    def _strike_then(self, call: Call, handle: Handle) -> None:
        fault = self._faults.strike(call.request.path, stream=False)
        if fault is None or not self._break(call, fault):
            if fault is not None and fault.head_secs:
                asyncio.get_running_loop().call_later(fault.head_secs, _try, handle, call)
            else:
                _try(handle, call)

    def _break(self, call: Call, fault: Fault) -> bool:
        """Do what ``fault`` does before any answer; False when the request goes on."""
        if fault.kind == "reset_before_head":
            call.drop(reset=True)
        elif fault.kind == "hang_before_head":
            call.on_gone = self._count_disconnect
        elif fault.kind == "garbage":
            call.raw(_GARBAGE)
            call.drop(reset=False)
        elif fault.kind == "status":
            _respond_error(call, _injected(fault.status))
        else:
            call.close_silently = fault.kind == "close_idle"
            return False
        return True

    def _count_disconnect(self) -> None:
        self._tally.disconnected += 1

    def _complete(self, call: Call, *, chat: bool) -> None:
        body = parse_body(call.request.body, chat=chat)
        stream = body.stream is True
        fault = self._faults.strike(call.request.path, stream)
        if fault is not None and self._break(call, fault):
            return
        generation = self._generation(call, body, fault, chat=chat, stream=stream)
        if fault is not None and fault.head_secs:
            asyncio.get_running_loop().call_later(fault.head_secs, generation.start)
        else:
            generation.start()

    def _generation(self, call: Call, body: Body, fault: Fault | None, *, chat: bool, stream: bool) -> Generation:
        options = self._options
        request_id = "" if body.request_id is None else str(body.request_id)
        response_id = self._ids.response_id(request_id, chat=chat)
        limit = 1 if options.role == "prefill" else body.limit or DEFAULT_MAX_TOKENS
        return Generation(
            call,
            Answer(response_id, body.model or options.model, chat=chat),
            self._words,
            self._driver,
            self._tally,
            prompt=prompt_of(body, options.block_size, options.hash_id_tokens),
            max_tokens=limit,
            reason="stop" if body.limit is None else "length",
            stream=stream,
            usage_wanted=body.stream_options is not None and body.stream_options.include_usage,
            engine_id=request_id or response_id,
            fault=fault,
        )

    # An instance's other endpoints.

    def _abort(self, call: Call) -> None:
        wanted = _decoded(call, _AbortBody)
        if not wanted.abort_all and not wanted.req_ids:
            raise BadRequestError("either req_ids or abort_all is required")
        names = wanted.req_ids or []
        chosen = [each for each in self._tally.live if wanted.abort_all or any(map(each.is_named, names))]
        not_found = (
            [] if wanted.abort_all else [name for name in names if not any(each.is_named(name) for each in chosen)]
        )
        aborted = [{"request_id": each.engine_id, "output_token_count": each.produced} for each in chosen]
        for each in chosen:
            each.abort()
        _respond(call, {
            "request_id": f"control-{self._ids.response_id('', chat=False)}",
            "status": "success",
            "error_msg": None,
            "result": {"aborted": aborted, "not_found": not_found},
        })  # fmt: skip

    def _models(self, call: Call) -> None:
        model = {
            "id": self._options.model,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "fd-router mock",
        }
        _respond(call, {"object": "list", "data": [model]})

    def _health(self, call: Call) -> None:
        healthy = self._is_healthy()
        _respond(call, {"status": "healthy" if healthy else "unhealthy"}, status=200 if healthy else 503)

    def _metrics(self, call: Call) -> None:
        engine, options = self._driver.engine, self._options
        free = max(0, options.cache_tokens - engine.running_tokens) // options.block_size
        gauges = {
            "fastdeploy:num_requests_running": engine.running,
            "fastdeploy:num_requests_waiting": engine.waiting,
            "available_gpu_block_num": free,
        }
        text = "".join([f"# TYPE {name} gauge\n{name} {value}\n" for name, value in gauges.items()])
        call.respond(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    # For tests.

    def _show_requests(self, call: Call) -> None:
        _respond(call, self._requests.describe())

    def _forget_requests(self, call: Call) -> None:
        self._requests.clear()
        _respond(call, self._requests.describe())

    def _show_faults(self, call: Call) -> None:
        _respond(call, {"faults": self._faults.describe(), "struck": self._faults.struck})

    def _set_faults(self, call: Call) -> None:
        faults = [parse_fault(spec) for spec in _decoded(call, _FaultsBody).faults]
        self._faults.replace(faults)
        self._apply_standing_faults()
        self._show_faults(call)

    def _show_state(self, call: Call) -> None:
        engine, tally = self._driver.engine, self._tally
        connections = self._server.connections
        _respond(call, {
            "name": self.name,
            "role": self._options.role,
            "registered": self._heartbeat is not None and self._heartbeat.is_registered,
            "running": engine.running,
            "waiting": engine.waiting,
            "live": len(tally.live),
            "finished": tally.finished,
            "disconnected": tally.disconnected,
            "aborted": tally.aborted,
            "struck": self._faults.struck,
            "connections": len(connections),
            "accepted": self._server.accepted,
            "unsent_bytes": sum(each.transport.get_write_buffer_size() for each in connections),
            "cache": {"blocks": len(engine.cache), "tokens": engine.cache.used_tokens},
        })  # fmt: skip

    # Faults that stand for a time.

    def _is_healthy(self) -> bool:
        return self._faults.find("unhealthy") is None

    def _apply_standing_faults(self) -> None:
        for timer in self._fault_timers:
            timer.cancel()
        self._fault_timers.clear()
        refuse, unhealthy = self._faults.find("refuse"), self._faults.find("unhealthy")
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


def run(options: MockOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises OSError when the address can't be had."""
    return uvloop.run(_serve(options))


async def _serve(options: MockOptions) -> int:
    instance = MockInstance(options, log=_say_aside)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await instance.start()
    sys.stdout.write(f"mock {options.role} instance on {instance.url}\n")
    sys.stdout.flush()
    await stopped.wait()
    await instance.stop()
    return 0


def _say_aside(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be reading any more
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _try(handle: Handle, call: Call) -> None:
    try:
        handle(call)
    except HttpError as error:
        _respond_error(call, error)


def _decoded(call: Call, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(call.request.body, type=shape)
    except msgspec.DecodeError as error:
        raise BadRequestError(f"Invalid JSON format: {error}") from None


def _respond(call: Call, value: Any, status: int = 200) -> None:
    call.respond(status, msgspec.json.encode(value), headers=request_headers(call))


def _respond_error(call: Call, error: HttpError) -> None:
    response = error_response(error)
    call.respond(response.status, response.body, headers=[*response.headers, *request_headers(call)])


def _not_allowed(method: str, allowed: Iterable[str]) -> HttpError:
    error = BadRequestError(f"{method} is not allowed here", status=405)
    error.headers = (("allow", ", ".join(allowed)),)
    return error


def _injected(status: int) -> HttpError:
    shape = BadRequestError if status < 500 else HttpError
    return shape(f"injected fault: {status}", status=status, code="injected_fault")
