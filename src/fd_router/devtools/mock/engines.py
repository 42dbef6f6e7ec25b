"""What a mock instance has of its engine: who it says it is, where its health and load are, how it is told to abort."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec

from fd_router.devtools.mock.answers import Handle, decoded, respond
from fd_router.devtools.mock.http_server import Call
from fd_router.errors import BadRequestError

VLLM_VERSION: Final = "0.32.0"
SGLANG_VERSION: Final = "0.5.23"

ADMIN_PATHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "fastdeploy": (),
    "openai": (),
    "vllm": ("/reset_prefix_cache", "/pause", "/resume", "/sleep", "/wake_up", "/update_weights"),
    "sglang": (
        "/flush_cache", "/pause_generation", "/continue_generation", "/release_memory_occupation",
        "/resume_memory_occupation", "/update_weights_from_disk",
    ),
})  # fmt: skip


FLUSH_PATHS: Final[Mapping[str, str]] = MappingProxyType({"vllm": "/reset_prefix_cache", "sglang": "/flush_cache"})
"""The one of them that empties the prefix cache."""


class Load(msgspec.Struct, frozen=True):
    """What there is to do."""

    running: int
    waiting: int
    free_blocks: int
    blocks: int
    block_size: int


class Engine(Protocol):
    """The mock instance, as its engine's endpoints see it."""

    def load(self) -> Load:
        """Tell what there is to do."""

    def is_healthy(self) -> bool:
        """Whether it says so."""

    def kv_events_port(self) -> int:
        """Tell where its KV events are published, 0: nowhere."""

    def flush_cache(self) -> None:
        """Forget all prefixes."""

    def abort_named(self, names: list[str] | None) -> object:
        """Abort the requests with these ids, None: all."""


class _VllmAbort(msgspec.Struct):
    request_ids: list[str]


class _SglangAbort(msgspec.Struct):
    rid: str = ""
    abort_all: bool = False


Routes = dict[str, Mapping[str, Handle]]


def engine_routes(dialect: str, engine: Engine) -> Routes:
    """Return the endpoints that only ``dialect``'s engine has."""
    routes: Routes = _ROUTES[dialect](engine)
    for path in ADMIN_PATHS[dialect]:
        routes[path] = {"POST": lambda call: respond(call, {"status": "ok"}), "GET": lambda call: respond(call, {})}
    if dialect in FLUSH_PATHS:
        routes[FLUSH_PATHS[dialect]] = dict.fromkeys(("POST", "GET"), partial(_flush, engine))
    return routes


def _flush(engine: Engine, call: Call) -> None:
    engine.flush_cache()
    respond(call, {"status": "ok"})


def _fastdeploy_routes(engine: Engine) -> Routes:
    def gauges() -> dict[str, int]:
        load = engine.load()
        return {
            "fastdeploy:num_requests_running": load.running,
            "fastdeploy:num_requests_waiting": load.waiting,
            "available_gpu_block_num": load.free_blocks,
        }

    return {"/metrics": {"GET": lambda call: _metrics(call, gauges())}}


def _openai_routes(engine: Engine) -> Routes:  # noqa: ARG001
    return {}


def _vllm_routes(engine: Engine) -> Routes:
    def gauges() -> dict[str, int]:
        load = engine.load()
        labels = 'engine="0",model_name="mock-model"'
        size = f'block_size="{load.block_size}",num_gpu_blocks="{load.blocks}"'
        return {
            f"vllm:num_requests_running{{{labels}}}": load.running,
            f"vllm:num_requests_waiting{{{labels}}}": load.waiting,
            f"vllm:cache_config_info{{{size}}}": 1,
        }

    def abort(call: Call) -> None:
        engine.abort_named(decoded(call, _VllmAbort).request_ids)
        call.respond(200, b"")

    return {
        "/version": {"GET": lambda call: respond(call, {"version": VLLM_VERSION})},
        "/ping": {"GET": lambda call: call.respond(200, b""), "POST": lambda call: call.respond(200, b"")},
        "/metrics": {"GET": lambda call: _metrics(call, gauges())},
        "/inference/v1/abort_requests": {"POST": abort},
        "/kv_event_sources": {"GET": lambda call: respond(call, _vllm_sources(engine.kv_events_port()))},
    }


def _sglang_routes(engine: Engine) -> Routes:
    def ready(call: Call) -> None:
        call.respond(200 if engine.is_healthy() else 503, b"")

    def loads(call: Call) -> None:
        load = engine.load()
        rank = {"dp_rank": 0, "num_running_reqs": load.running, "num_waiting_reqs": load.waiting}
        respond(call, {"version": SGLANG_VERSION, "loads": [rank]})

    def abort(call: Call) -> None:
        wanted = decoded(call, _SglangAbort)
        if not wanted.rid and not wanted.abort_all:
            raise BadRequestError("rid or abort_all is required")
        engine.abort_named(None if wanted.abort_all else [wanted.rid])
        call.respond(200, b"")

    info: dict[str, Any] = {"disaggregation_mode": "null", "version": SGLANG_VERSION, "internal_states": []}
    return {
        "/server_info": {
            "GET": lambda call: respond(call, info | {"kv_events": _sglang_sources(engine.kv_events_port())})
        },
        "/model_info": {"GET": lambda call: respond(call, {"model_path": "mock-model", "is_generation": True})},
        "/ready": {"GET": ready},
        "/v1/loads": {"GET": loads},
        "/abort_request": {"POST": abort},
    }


def _vllm_sources(port: int) -> dict[str, Any]:
    if not port:
        return {}
    endpoints = {"endpoint": f"tcp://*:{port}", "replay_endpoint": f"tcp://*:{port + 1}"}
    return {"0": {"enable_kv_cache_events": True, "publisher": "zmq", "topic": "", **endpoints}}


def _sglang_sources(port: int) -> dict[str, Any] | None:
    if not port:
        return None
    ports = {"endpoint_port_base": port, "replay_endpoint_port_base": port + 1}
    return {"publisher": "zmq", "endpoint_host": "*", "topic": "", "dp_size": 1, **ports}


_ROUTES: Final[Mapping[str, Callable[[Engine], Routes]]] = MappingProxyType({
    "fastdeploy": _fastdeploy_routes,
    "vllm": _vllm_routes,
    "sglang": _sglang_routes,
    "openai": _openai_routes,
})  # fmt: skip

DIALECTS: Final = tuple(_ROUTES)


def _metrics(call: Call, gauges: Mapping[str, int]) -> None:
    """Answer with a page; each name may have labels."""
    text = "".join(f"# TYPE {name.partition('{')[0]} gauge\n{name} {value}\n" for name, value in gauges.items())
    call.respond(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")
