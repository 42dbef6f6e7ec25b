"""Every option of the router, declared once: name, type, default, unit, help, bounds. The rest is derived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, get_type_hints

import msgspec

from fd_router.config_options import Option, declared

POLICIES: Final = (
    "random",
    "round_robin",
    "power_of_two",
    "process_tokens",
    "request_num",
    "fd_metrics_score",
    "fd_remote_metrics_score",
    "cache_aware",
    "remote_cache_aware",
)
"""The scheduling policies, FastDeploy's names."""


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
            help="Address to listen on. (FastDeploy's Go program reads it, but listens on every address.)", flag=True
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


class SchedulerConfig(msgspec.Struct, frozen=True):
    """Which instance serves a request."""

    policy: Annotated[str, Option(help="Policy that chooses among mixed instances.", choices=POLICIES)] = "request_num"
    prefill_policy: Annotated[
        str, Option(help="Policy that chooses the prefill instance (splitwise).", choices=POLICIES)
    ] = "process_tokens"
    decode_policy: Annotated[
        str, Option(help="Policy that chooses the decode instance (splitwise).", choices=POLICIES)
    ] = "request_num"
    eviction_interval_secs: Annotated[
        float, Option(help="How often the prefix index is swept.", unit="s", minimum=0.1, zero_is_default=True)
    ] = 60.0
    eviction_duration_mins: Annotated[
        float,
        Option(
            help="A node of the prefix index that is unused for so long is dropped.",
            unit="min",
            minimum=0.001,
            zero_is_default=True,
        ),
    ] = 30.0
    balance_abs_threshold: Annotated[
        float,
        Option(
            help="Cache-aware policies: loads are imbalanced when the highest exceeds the lowest by more …",
            minimum=0,
            zero_is_default=True,
        ),
    ] = 1.0
    balance_rel_threshold: Annotated[
        float, Option(help="… and by more than this share of the highest.", minimum=0, zero_is_default=True)
    ] = 0.2
    hit_ratio_weight: Annotated[
        float,
        Option(
            help="Cache-aware policies: weight of the missing share of the prompt's prefix.",
            minimum=0,
            zero_is_default=True,
        ),
    ] = 1.0
    load_balance_weight: Annotated[
        float, Option(help="Cache-aware policies: weight of the load.", minimum=0, zero_is_default=True)
    ] = 1.0
    cache_block_size: Annotated[
        int,
        Option(
            help="Tokens in a block of the prefix index; the instances' own block size fits best.",
            unit="tokens",
            minimum=1,
            maximum=1_000_000,
            zero_is_default=True,
        ),
    ] = 64
    cache_index_max_blocks: Annotated[
        int,
        Option(
            help="Hard limit on the blocks of a prefix index; beyond it the least recently used go.",
            unit="blocks",
            minimum=1,
            zero_is_default=True,
        ),
    ] = 1_000_000
    cache_instance_max_blocks: Annotated[
        int,
        Option(
            help="Blocks remembered for one instance: what its cache holds. 0: as many as a remote policy's "
            "available_gpu_block_num tells, else no limit.",
            unit="blocks",
            minimum=0,
        ),
    ] = 0
    tokenizer_url: Annotated[
        str,
        Option(
            help="Tokenizer service for the cache-aware policies. Without one, characters count as tokens.",
            pattern=r"(http://\S+)?",
            form="an http:// URL",
        ),
    ] = ""
    tokenizer_timeout_secs: Annotated[
        float, Option(help="How long the tokenizer service may take.", unit="s", minimum=0.001, zero_is_default=True)
    ] = 2.0
    tokenizer_max_concurrent: Annotated[
        int, Option(help="Requests to the tokenizer service at one time; others wait.", minimum=1, zero_is_default=True)
    ] = 32
    load_scrape_interval_secs: Annotated[
        float,
        Option(
            help="Remote policies: how often each instance's /metrics is read.",
            unit="s",
            minimum=0.01,
            zero_is_default=True,
        ),
    ] = 0.2
    load_max_age_secs: Annotated[
        float,
        Option(
            help="Remote policies: figures older than this count as absent; the router's own counts are used instead.",
            unit="s",
            minimum=0.01,
            zero_is_default=True,
        ),
    ] = 2.0
    waiting_weight: Annotated[
        float,
        Option(
            help="Metrics-score policies: what a waiting request counts in running ones.",
            minimum=0,
            zero_is_default=True,
        ),
    ] = 1.0
    stats_interval_secs: Annotated[
        float, Option(help="How often the log gets the [stats] line.", unit="s", minimum=0.1, zero_is_default=True)
    ] = 5.0


class ManagerConfig(msgspec.Struct, frozen=True):
    """Which instances there are and whether they are healthy."""

    register_path: Annotated[
        str, Option(help="YAML file with instances that are kept: probed until they are up, and again when they died.")
    ] = ""
    health_failure_threshold: Annotated[
        int, Option(help="Failed probes in a row that make an instance unhealthy.", minimum=1, zero_is_default=True)
    ] = 1
    health_success_threshold: Annotated[
        int,
        Option(help="Successful probes in a row that make an instance healthy again.", minimum=1, zero_is_default=True),
    ] = 1
    health_check_timeout_secs: Annotated[
        float, Option(help="How long a probe may take.", unit="s", minimum=0.001, zero_is_default=True)
    ] = 5.0
    health_check_interval_secs: Annotated[
        float, Option(help="How often each instance is probed.", unit="s", minimum=0.01, zero_is_default=True)
    ] = 5.0
    health_check_endpoint: Annotated[
        str,
        Option(help="Path of the probe; status 200 is healthy.", pattern=r"/[!-~]*", form="a path beginning with /"),
    ] = "/health"
    instance_expiry_secs: Annotated[
        float,
        Option(
            help="An instance that registered itself and is unhealthy for so long is dropped.", unit="s", minimum=0.01
        ),
    ] = 300.0


class LogConfig(msgspec.Struct, frozen=True):
    """What is logged, where, and how long it is kept."""

    level: Annotated[
        str, Option(help="The least level that is logged.", choices=("debug", "info", "warn", "error"))
    ] = "info"
    output: Annotated[str, Option(help="Where the log goes.", choices=("stdout", "file"))] = "stdout"
    format: Annotated[
        str, Option(help="FastDeploy's text lines, or one JSON object a line.", choices=("text", "json"))
    ] = "text"
    path: Annotated[str, Option(help="The log file when the output is a file.")] = "logs/router.log"
    max_age_days: Annotated[
        int, Option(help="Rotated log files older than this are deleted.", unit="days", minimum=1, zero_is_default=True)
    ] = 7
    max_total_size_mb: Annotated[
        int,
        Option(
            help="The oldest rotated log files are deleted while all together are larger than this.",
            unit="MB",
            minimum=1,
            zero_is_default=True,
        ),
    ] = 500
    cleanup_interval_secs: Annotated[
        float, Option(help="How often old log files are looked for.", unit="s", minimum=1, zero_is_default=True)
    ] = 3600.0


class ProxyConfig(msgspec.Struct, frozen=True):
    """How requests are taken from clients and forwarded to instances."""

    max_attempts: Annotated[
        int,
        Option(help="Attempts for one request, each at another instance while there is one.", minimum=1, maximum=100),
    ] = 3
    connect_timeout_secs: Annotated[
        float, Option(help="How long connecting to an instance may take.", unit="s", minimum=0.001)
    ] = 3.0
    first_byte_timeout_secs: Annotated[
        float,
        Option(
            help="How long an instance may take to begin an answer: a whole generation if not streamed.",
            unit="s",
            minimum=0.001,
        ),
    ] = 1800.0
    prefill_timeout_secs: Annotated[
        float,
        Option(
            help="Splitwise: how long a prefill instance may take to begin its answer; then another pair is tried.",
            unit="s",
            minimum=0.001,
        ),
    ] = 120.0
    expose_instances: Annotated[
        bool, Option(help="Splitwise: tell the chosen pair in X-Router-Prefill-URL and X-Router-Decode-URL.")
    ] = True
    stall_timeout_secs: Annotated[
        float, Option(help="How long an instance may pause in the middle of its answer.", unit="s", minimum=0.001)
    ] = 600.0
    pool_idle_timeout_secs: Annotated[
        float,
        Option(
            help="How long an unused connection to an instance is kept; stay below the engine's limit (uvicorn: 5 s).",
            unit="s",
            minimum=0,
        ),
    ] = 4.0
    pool_max_idle: Annotated[
        int, Option(help="Unused connections kept for each instance.", minimum=0, maximum=1_000_000)
    ] = 256
    max_body_mb: Annotated[
        int,
        Option(
            help="The largest request body; larger ones are refused with 413.", unit="MB", minimum=1, maximum=1_000_000
        ),
    ] = 64
    max_head_kb: Annotated[
        int,
        Option(
            help="The largest request head; larger ones are refused with 431.", unit="KB", minimum=1, maximum=1_000_000
        ),
    ] = 64
    client_head_timeout_secs: Annotated[
        float,
        Option(
            help="How long a client may take to send a request's head, from its first byte.", unit="s", minimum=0.001
        ),
    ] = 30.0
    client_body_timeout_secs: Annotated[
        float, Option(help="How long a client may pause while it sends a body.", unit="s", minimum=0.001)
    ] = 60.0
    client_idle_timeout_secs: Annotated[
        float, Option(help="How long a client's connection may stay open without a request.", unit="s", minimum=0.001)
    ] = 75.0


class Config(msgspec.Struct, frozen=True):
    """A whole configuration. Sections in files are the attributes' names; keys are kebab-case or snake_case."""

    server: ServerConfig = msgspec.field(default_factory=ServerConfig)
    scheduler: SchedulerConfig = msgspec.field(default_factory=SchedulerConfig)
    manager: ManagerConfig = msgspec.field(default_factory=ManagerConfig)
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    proxy: ProxyConfig = msgspec.field(default_factory=ProxyConfig)


SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = get_type_hints(Config)

OPTIONS: Final = tuple(option for name, struct in SECTIONS.items() for option in declared(struct, name))
"""Every option of every section, in the order of the reference page."""
