"""The options of a mock instance, each declared once."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.loading import Option
from fd_router.devtools.engine_model import options as engine_options
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.mock.engines import DIALECTS
from fd_router.devtools.router_address import FORM, PATTERN

ROLES = ("mixed", "prefill", "decode")

CONNECTORS = ("NixlConnector", "NixlPushConnector", "MooncakeConnector")


class MockOptions(msgspec.Struct, frozen=True):
    """Who the mock instance is, how fast its engine model runs, and which faults it begins with."""

    port: Annotated[
        int, Option(help="Port to listen on; 0 takes a free one. It is printed at start.", minimum=0, maximum=65535)
    ] = 0
    host: Annotated[str, Option(help="Address to listen on, and to register with.")] = "127.0.0.1"
    name: Annotated[str, Option(help="What the instance calls itself in its answers. Default: mock-<port>.")] = ""
    role: Annotated[
        str, Option(help="What it registers as. A prefill instance answers with one token.", choices=ROLES)
    ] = "mixed"
    dialect: Annotated[
        str,
        Option(help="Whose engine's endpoints it has beside those that generate and read.", choices=DIALECTS),
    ] = "fastdeploy"
    router: Annotated[
        str,
        Option(
            help="The router to register at, as HOST:PORT or http://HOST:PORT; any:TOKEN@HOST:PORT shows a token. "
            "Default: don't register.",
            pattern=f"({PATTERN})?",
            form=FORM,
        ),
    ] = ""
    heartbeat_secs: Annotated[float, Option(help="How often it registers again.", unit="s", minimum=0.01)] = 5.0
    model: Annotated[str, Option(help="The model in its answers when a request names none.")] = "mock-model"
    only_model: Annotated[
        bool, Option(help="Answer 404 to a request for another model, as vLLM does; else every name is taken.")
    ] = False
    version: Annotated[str, Option(help="The version it registers with.")] = "mock"
    tp_size: Annotated[int, Option(help="The tensor-parallel size it registers with.", minimum=1, maximum=1024)] = 1
    connector_port: Annotated[
        int,
        Option(
            help="Port where KV caches are handed over (PD), which it registers with; 0: the serving port.",
            minimum=0,
            maximum=65535,
        ),
    ] = 0
    transfer_protocol: Annotated[
        str, Option(help="How KV caches can come, as it registers.", choices=("ipc,rdma", "ipc", "rdma"))
    ] = "ipc,rdma"
    kv_connector: Annotated[
        str,
        Option(help="How a vLLM instance of a pair hands KV caches over, which it registers with.", choices=CONNECTORS),
    ] = "NixlConnector"
    paused: Annotated[bool, Option(help="Register as paused: the router shall send nothing new.")] = False
    known_prefill: Annotated[
        tuple[str, ...],
        Option(
            help="IP:PORT of the connector of a prefill instance that a decode instance works with; may be given "
            "often. Default: any."
        ),
    ] = ()
    kv_wait_secs: Annotated[
        float, Option(help="How long a decode instance waits for the KV cache.", unit="s", minimum=0.001)
    ] = 10.0
    prefill_tokens_per_sec: engine_options.PrefillSpeed = engine_options.PREFILL_TOKENS_PER_SEC
    decode_ms_per_token: engine_options.DecodeTime = engine_options.DECODE_MS_PER_TOKEN
    decode_ms_per_running: engine_options.DecodeTimeMore = engine_options.DECODE_MS_PER_RUNNING
    cache_tokens: engine_options.CacheSize = engine_options.CACHE_TOKENS
    block_size: Annotated[int, Option(help="Tokens in a block of the prefix cache.", unit="tokens", minimum=1)] = 64
    kv_events_port: Annotated[
        int,
        Option(
            help="Publish KV events at this port over ZeroMQ, as vLLM and SGLang do, and replay them at the next one; "
            "0: don't. Needs one more package: pip install 'pyzmq>=25'.",
            minimum=0,
            maximum=65534,
        ),
    ] = 0
    hash_id_tokens: Annotated[
        int, Option(help="Tokens that each of a request's mock_hash_ids stands for.", unit="tokens", minimum=1)
    ] = 512
    thinking_tokens: Annotated[
        int,
        Option(
            help="Tokens of thoughts with which the answer begins of a chat that asks for them (enable_thinking, also "
            "in chat_template_kwargs).",
            unit="tokens",
            minimum=1,
        ),
    ] = 16
    max_running: engine_options.MaxRunning = engine_options.MAX_RUNNING
    keep_alive_secs: Annotated[
        float,
        Option(help="An idle connection is closed after so long (engines on uvicorn: 5).", unit="s", minimum=0.01),
    ] = 5.0
    record: Annotated[
        int, Option(help="How many of the last requests GET /mock/requests remembers.", unit="requests", minimum=0)
    ] = 1000
    record_bodies: Annotated[bool, Option(help="Remember the requests' bodies too, not only their SHA-256.")] = False
    seed: Annotated[int, Option(help="Seed of the faults' dice.")] = 0
    fault: Annotated[
        tuple[str, ...], Option(help="A fault to begin with, as KIND or KIND:key=value,key=value; may be given often.")
    ] = ()

    @property
    def engine(self) -> EngineSettings:
        """The engine model's settings."""
        return engine_options.engine_settings(self)
