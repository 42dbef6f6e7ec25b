"""The options of ``fd-router simulate``, each declared once."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from fd_router.config.loading import Option
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.report.outcomes import Limits
from fd_router.devtools.simulate.simulator import Fleet
from fd_router.devtools.traces.trace import BLOCK_TOKENS
from fd_router.errors import ConfigError


class SimulateOptions(msgspec.Struct, frozen=True):
    """Which trace, which policies, which fleet. The engine's options are those of a mock instance."""

    trace: Annotated[str, Option(help="The trace: a JSONL file in Mooncake's format. Needed.")] = ""
    policy: Annotated[
        str,
        Option(
            help="Policies to compare, as a,b,c; each may have options of its own: "
            "cache_aware:hit-ratio-weight=2:load-balance-weight=0.5."
        ),
    ] = "request_num,process_tokens,cache_aware,ttft_aware"
    config_path: Annotated[
        str, Option(help="The router's YAML file: the scheduler's options are taken from it, and from the environment.")
    ] = ""
    set: Annotated[
        tuple[str, ...],
        Option(
            help="An option of the scheduler for all policies, as KEY=VALUE; may be given often.",
            pattern=r"[^=]+=.*",
            form="KEY=VALUE",
        ),
    ] = ()
    instances: Annotated[int, Option(help="Instances in the fleet.", minimum=1, maximum=10_000)] = 8
    speed: Annotated[
        float, Option(help="The requests come so many times as fast as in the trace.", minimum=0.000001)
    ] = 1.0
    load: Annotated[
        float,
        Option(
            help="Let the requests come as fast as is needed to make their prompts, computed without any cache, this "
            "share of what the fleet can prefill; 0: as --speed says.",
            minimum=0,
        ),
    ] = 0.0
    prefill_tokens_per_sec: Annotated[
        float, Option(help="An instance's prefill speed.", unit="tokens/s", minimum=0.001)
    ] = 20_000.0
    decode_ms_per_token: Annotated[
        float, Option(help="Time between two tokens of a request.", unit="ms", minimum=0)
    ] = 10.0
    decode_ms_per_running: Annotated[
        float, Option(help="What each running request adds to that time.", unit="ms", minimum=0)
    ] = 0.05
    cache_tokens: Annotated[int, Option(help="Size of an instance's prefix cache.", unit="tokens", minimum=0)] = 400_000
    max_running: Annotated[
        int, Option(help="Requests that run at once in an instance; others wait.", unit="requests", minimum=1)
    ] = 256
    chunk_tokens: Annotated[
        int,
        Option(
            help="Tokens of prompts and decode in a step of the engine (max_num_batched_tokens), so that prefill slows "
            "decode; 0: prefills run one by one beside decode.",
            unit="tokens",
            minimum=0,
        ),
    ] = 0
    kv_tokens: Annotated[
        int,
        Option(
            help="KV memory that running requests and the cache share, with preemption when it is short; 0: running "
            "requests have as much as they need, the cache has --cache-tokens.",
            unit="tokens",
            minimum=0,
        ),
    ] = 0
    speeds: Annotated[
        str,
        Option(
            help="How many times as fast the first, second … instance is, then from the start again, as 1,1,0.4.",
            pattern=r"([0-9.]+(,[0-9.]+)*)?",
            form="1,1,0.4",
        ),
    ] = ""
    join_at: Annotated[
        str,
        Option(
            help="When the last instances join, in seconds, as 60,90; the others are there from the beginning.",
            pattern=r"([0-9.]+(,[0-9.]+)*)?",
            form="60,90",
        ),
    ] = ""
    block_tokens: Annotated[
        int, Option(help="Tokens that a hash id of the trace stands for.", unit="tokens", minimum=1)
    ] = BLOCK_TOKENS
    max_output: Annotated[
        int, Option(help="Let no request generate more tokens than this; 0: as many as the trace says.", minimum=0)
    ] = 0
    limit: Annotated[int, Option(help="Take only so many requests, the first ones; 0: all.", minimum=0)] = 0
    seed: Annotated[int, Option(help="Seed of what a policy leaves to chance.")] = 0
    ttft_limit_secs: Annotated[
        float, Option(help="A request is good when its first token comes within this; 0: any.", unit="s", minimum=0)
    ] = 0.0
    tpot_limit_ms: Annotated[
        float, Option(help="… and each further token takes no more than this on average; 0: any.", unit="ms", minimum=0)
    ] = 0.0
    out: Annotated[str, Option(help="Directory for results.json, and for the plot as plot.png and plot.html.")] = ""
    json: Annotated[bool, Option(help="Print the results as JSON instead of a table.")] = False

    @property
    def engine(self) -> EngineSettings:
        """The engine model's settings."""
        return EngineSettings(
            prefill_tokens_per_sec=self.prefill_tokens_per_sec,
            decode_secs=self.decode_ms_per_token / 1000,
            decode_secs_per_running=self.decode_ms_per_running / 1000,
            cache_tokens=self.cache_tokens,
            max_running=self.max_running,
            chunk_tokens=self.chunk_tokens,
            kv_tokens=self.kv_tokens,
        )

    @property
    def fleet(self) -> Fleet:
        """The fleet. Raises ConfigError when more instances join than there are."""
        joins = tuple(float(each) for each in self.join_at.split(",") if each)
        if len(joins) >= self.instances:
            raise ConfigError(f"--join-at {self.join_at}: one of {self.instances} instances must be there at the start")
        return Fleet(self.instances, self.engine, tuple(float(each) for each in self.speeds.split(",") if each), joins)

    @property
    def limits(self) -> Limits:
        """What a good request keeps."""
        return Limits(self.ttft_limit_secs or math.inf, self.tpot_limit_ms / 1000 or math.inf)
