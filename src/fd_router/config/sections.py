"""Every option of the router, declared once: name, type, default, unit, help, bounds. The rest is derived."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final, get_type_hints

import msgspec

from fd_router.config.admission import AccessConfig, AdmissionConfig
from fd_router.config.capacity import ProtectionConfig
from fd_router.config.continuation import ContinuationConfig
from fd_router.config.discovery import DiscoveryConfig
from fd_router.config.dotted_path import DOTTED_PATHS_PATTERN
from fd_router.config.instances import InstancesConfig
from fd_router.config.log import LogConfig
from fd_router.config.models import ModelsConfig
from fd_router.config.options import Option, declared
from fd_router.config.scheduling import SchedulerConfig
from fd_router.config.state import StateConfig
from fd_router.config.telemetry import TelemetryConfig
from fd_router.config.tls import TlsConfig


class ServerConfig(msgspec.Struct, frozen=True):
    """Where the router listens and which deployment it serves."""

    name: Annotated[str, Option(help="The router's name.")] = "fd-router"
    port: Annotated[
        int,
        Option(
            help="Port to listen on. Needed; there is no default.",
            minimum=1,
            maximum=65535,
            flag=True,
            zero_is_default=True,
        ),
    ] = 0
    host: Annotated[
        str,
        Option(
            help="Address to listen on; 0.0.0.0: every one, IPv6 too. (FastDeploy's Go program reads it, but "
            "listens on every address whatever it is.)",
            flag=True,
        ),
    ] = "0.0.0.0"  # noqa: S104
    mode: Annotated[
        str, Option(help="Accepted for compatibility; changes nothing.", choices=("debug", "release", "test"))
    ] = "release"
    splitwise: Annotated[
        bool,
        Option(
            help="Serve a PD-disaggregated deployment: prefill and decode instances instead of mixed ones.", flag=True
        ),
    ] = False
    drain_delay_secs: Annotated[
        float,
        Option(
            live=True,
            help="How long a router that was told to stop goes on to accept connections, while /health answers 503: "
            "what sends it clients needs that time to notice.",
            unit="s",
            minimum=0,
        ),
    ] = 0.0
    drain_timeout_secs: Annotated[
        float,
        Option(
            live=True,
            help="How long running requests may go on once no more connections are accepted.",
            unit="s",
            minimum=0,
        ),
    ] = 30.0
    reuse_port: Annotated[
        bool,
        Option(
            help="Let a second router listen on the same port (SO_REUSEPORT) and take over its new connections: "
            "a restart without a refused one."
        ),
    ] = False
    workers: Annotated[
        str,
        Option(
            help="Processes that serve clients, under a supervisor; auto: one for each core. They share the port, and "
            "what they know ([replicas.md](replicas.md#workers)). 1: this process serves them itself.",
            pattern=r"auto|[1-9][0-9]{0,2}",
            form="a whole number from 1 to 999, or auto",
        ),
    ] = "1"
    dashboard: Annotated[
        bool,
        Option(
            help="Serve the dashboard, a page for a browser, at /dashboard: on the control port where there is one. "
            "What it shows is what /metrics shows to anybody, and the rest to who may call the endpoints of admins."
        ),
    ] = True
    endpoints: Annotated[
        str,
        Option(
            help="Endpoints of instances beside the router's own table: objects of yours, separated by commas.",
            pattern=DOTTED_PATHS_PATTERN,
            form="my_module:MY_ENDPOINT, or several separated by commas",
        ),
    ] = ""
    open_endpoints: Annotated[
        str,
        Option(
            help="Which inference endpoints of the router's own table are open, by their kinds or paths, separated by "
            "commas ([endpoints.md](endpoints.md) has the table); the others are answered with 404. What engines have "
            "for their admins is never among them: it needs `access.admin-token`.",
            pattern=r"[^\s,]+(\s*,\s*[^\s,]+)*",
            form="kinds or paths separated by commas",
        ),
    ] = "chat, responses, messages, embeddings, scoring, audio, tokens, generate"
    plugin_folder: str = ""  # no option: where the configuration file lies, and perhaps an endpoint

    @property
    def worker_count(self) -> int:
        """How many processes serve clients."""
        return len(os.sched_getaffinity(0)) if self.workers == "auto" else int(self.workers)


class ManagerConfig(msgspec.Struct, frozen=True):
    """Which instances there are and whether they are healthy."""

    instance: Annotated[
        str,
        Option(
            help="An instance, as `[ROLE=]URL`: `http://10.0.0.1:8000`, `prefill=engine.example:8000`; mixed without a "
            "role. It is kept like those of `register-path`. The flag may be given often; a file has several separated "
            "by commas.",
            flag=True,
            repeated=True,
        ),
    ] = ""
    register_path: Annotated[
        str,
        Option(
            live=True,
            help="YAML file with instances that are kept: probed until they are up, and again when they died.",
        ),
    ] = ""
    state_path: Annotated[
        str,
        Option(
            help="File that keeps the instances that registered themselves over a restart of the router. None: they "
            "are known again from their next heartbeat on."
        ),
    ] = ""
    health_failure_threshold: Annotated[
        int,
        Option(
            live=True, help="Failed probes in a row that make an instance unhealthy.", minimum=1, zero_is_default=True
        ),
    ] = 1
    health_success_threshold: Annotated[
        int,
        Option(
            live=True,
            help="Successful probes in a row that make an instance healthy again.",
            minimum=1,
            zero_is_default=True,
        ),
    ] = 1
    health_check_timeout_secs: Annotated[
        float, Option(live=True, help="How long a probe may take.", unit="s", minimum=0.001, zero_is_default=True)
    ] = 5.0
    health_check_interval_secs: Annotated[
        float,
        Option(live=True, help="How often each instance is probed.", unit="s", minimum=0.01, zero_is_default=True),
    ] = 5.0
    health_check_endpoint: Annotated[
        str,
        Option(
            live=True,
            help="Path of the probe; status 200 is healthy.",
            pattern=r"/[!-~]*",
            form="a path beginning with /",
        ),
    ] = "/health"
    instance_expiry_secs: Annotated[
        float,
        Option(
            live=True,
            help="An instance that registered itself and is unhealthy for so long is dropped.",
            unit="s",
            minimum=0.01,
        ),
    ] = 300.0


class ProxyConfig(ContinuationConfig, frozen=True):
    """How requests are taken from clients and forwarded to instances."""

    max_attempts: Annotated[
        int,
        Option(
            live=True,
            help="Attempts for one request, each at another instance while there is one.",
            minimum=1,
            maximum=100,
        ),
    ] = 3
    client_transfer_members: Annotated[
        bool,
        Option(
            live=True,
            help=(
                "Let bodies have what only routers tell vLLM or SGLang (kv_transfer_params, bootstrap_host, "
                "routed_dp_rank …); else they are a 400. An engine connects to the host that is named there."
            ),
        ),
    ] = False
    connect_timeout_secs: Annotated[
        float, Option(live=True, help="How long connecting to an instance may take.", unit="s", minimum=0.001)
    ] = 3.0
    first_byte_timeout_secs: Annotated[
        float,
        Option(
            live=True,
            help="How long an instance may take to begin an answer: a whole generation if not streamed.",
            unit="s",
            minimum=0.001,
        ),
    ] = 1800.0
    prefill_timeout_secs: Annotated[
        float,
        Option(
            live=True,
            help="Splitwise: how long a prefill instance may take to begin its answer; then another pair is tried.",
            unit="s",
            minimum=0.001,
        ),
    ] = 120.0
    request_timeout_secs: Annotated[
        float,
        Option(
            live=True,
            help="How long a request may take in all, from its first byte to its answer's last, waiting and repeated "
            "attempts included; 0: no limit.",
            unit="s",
            minimum=0,
            flag=True,
        ),
    ] = 0.0
    preempt_retry_count: Annotated[
        int,
        Option(
            live=True,
            help="Splitwise: how often a request that decode gave back (pd_reschedule) is scheduled again.",
            minimum=0,
            maximum=100,
            flag=True,
        ),
    ] = 3
    preempt_retry_exclude_decode: Annotated[
        bool,
        Option(
            live=True,
            help="Splitwise: schedule such a request at another decode instance than the one that gave it back, while "
            "there is one: it has no memory, however few requests run there.",
            flag=True,
        ),
    ] = True
    expose_instances: Annotated[
        bool, Option(live=True, help="Splitwise: tell the chosen pair in X-Router-Prefill-URL and X-Router-Decode-URL.")
    ] = True
    explain_header: Annotated[
        str,
        Option(
            help="Tell in the answer's header x-router-decision how the request was scheduled: never, to requests "
            "with x-router-explain: 1, or always.",
            choices=("off", "request", "always"),
        ),
    ] = "off"
    stall_timeout_secs: Annotated[
        float,
        Option(live=True, help="How long an instance may pause in the middle of its answer.", unit="s", minimum=0.001),
    ] = 600.0
    pool_idle_timeout_secs: Annotated[
        float,
        Option(
            live=True,
            help="How long an unused connection to an instance is kept; stay below the engine's limit (uvicorn: 5 s).",
            unit="s",
            minimum=0,
        ),
    ] = 4.0
    pool_max_idle: Annotated[
        int, Option(live=True, help="Unused connections kept for each instance.", minimum=0, maximum=1_000_000)
    ] = 256
    client_keepalive_secs: Annotated[
        int,
        Option(
            help="TCP keepalive towards clients: how long one may be silent before it is probed; one that answers none "
            "of three probes, which are as far apart, has left. 0: none.",
            unit="s",
            minimum=0,
            maximum=32767,
        ),
    ] = 15
    instance_keepalive_secs: Annotated[
        int,
        Option(help="The same towards instances.", unit="s", minimum=0, maximum=32767),
    ] = 30
    max_connections: Annotated[
        int,
        Option(
            live=True,
            help="Connections of clients at once; 0: three quarters of the open files that the system allows.",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 0
    max_body_mb: Annotated[
        int,
        Option(
            live=True,
            help="The largest request body; larger ones are refused with 413.",
            unit="MB",
            minimum=1,
            maximum=1_000_000,
        ),
    ] = 64
    body_budget_mb: Annotated[
        int,
        Option(
            live=True,
            help="Bytes of all requests' bodies together, from when they are received until they are answered; beyond "
            "it they are refused with 503, those of up to 64 KB last. 0: a quarter of the memory that the process may "
            "use (its cgroup's limit, or the machine's).",
            unit="MB",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 0
    max_head_kb: Annotated[
        int,
        Option(
            live=True,
            help="The largest request head; larger ones are refused with 431.",
            unit="KB",
            minimum=1,
            maximum=1_000_000,
        ),
    ] = 64
    client_head_timeout_secs: Annotated[
        float,
        Option(
            live=True,
            help="How long a client may take to send a request's head, from its first byte.",
            unit="s",
            minimum=0.001,
        ),
    ] = 30.0
    client_body_timeout_secs: Annotated[
        float, Option(live=True, help="How long a client may pause while it sends a body.", unit="s", minimum=0.001)
    ] = 60.0
    client_request_timeout_secs: Annotated[
        float,
        Option(
            live=True,
            help="How long a client may take to send a whole body, with or without pauses.",
            unit="s",
            minimum=0.001,
        ),
    ] = 600.0
    client_idle_timeout_secs: Annotated[
        float,
        Option(
            live=True, help="How long a client's connection may stay open without a request.", unit="s", minimum=0.001
        ),
    ] = 75.0


class Config(msgspec.Struct, frozen=True):
    """A whole configuration. Sections in files are the attributes' names; keys are kebab-case or snake_case."""

    server: ServerConfig = msgspec.field(default_factory=ServerConfig)
    scheduler: SchedulerConfig = msgspec.field(default_factory=SchedulerConfig)
    manager: ManagerConfig = msgspec.field(default_factory=ManagerConfig)
    instances: InstancesConfig = msgspec.field(default_factory=InstancesConfig)
    discovery: DiscoveryConfig = msgspec.field(default_factory=DiscoveryConfig)
    models: ModelsConfig = msgspec.field(default_factory=ModelsConfig)
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    telemetry: TelemetryConfig = msgspec.field(default_factory=TelemetryConfig)
    proxy: ProxyConfig = msgspec.field(default_factory=ProxyConfig)
    access: AccessConfig = msgspec.field(default_factory=AccessConfig)
    admission: AdmissionConfig = msgspec.field(default_factory=AdmissionConfig)
    protection: ProtectionConfig = msgspec.field(default_factory=ProtectionConfig)
    tls: TlsConfig = msgspec.field(default_factory=TlsConfig)
    state: StateConfig = msgspec.field(default_factory=StateConfig)


SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = get_type_hints(Config)

OPTIONS: Final = tuple(option for name, struct in SECTIONS.items() for option in declared(struct, name))
"""Every option of every section, in the order of the reference page."""
