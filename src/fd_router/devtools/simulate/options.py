"""The options of ``fd-router simulate``, each declared once."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.loading import Option
from fd_router.devtools.engine_model import options as engine_options
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.report.options import RunOptions
from fd_router.devtools.simulate.simulator import Fleet, Routers
from fd_router.devtools.simulate.tuning import SPACES
from fd_router.errors import ConfigError


class SimulateOptions(RunOptions, frozen=True):
    """Which trace, which policies, which fleet. The engine's options are those of a mock instance."""

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
    instances: Annotated[
        str,
        Option(
            help="Instances in the fleet; with --splitwise prefill and decode ones as 6+2, or several such to compare.",
            pattern=r"[1-9]\d{0,4}(\+[1-9]\d{0,4})?(,[1-9]\d{0,4}\+[1-9]\d{0,4})*",
            form="8 or, with --splitwise, 6+2,5+3",
        ),
    ] = "8"
    splitwise: Annotated[
        bool,
        Option(
            help="Prefill and decode instances: policies are PREFILL+DECODE, as process_tokens+request_num; without "
            "the second one it is scheduler.decode-policy."
        ),
    ] = False
    transfer_ms: Annotated[
        float, Option(help="With --splitwise, how long any KV cache is on its way to decode, …", unit="ms", minimum=0)
    ] = 0.0
    transfer_ms_per_1k_tokens: Annotated[
        float, Option(help="… and how much longer for each 1,000 tokens of the prompt.", unit="ms", minimum=0)
    ] = 0.0
    load: Annotated[
        float,
        Option(
            help="Let the requests come as fast as is needed to make their prompts, computed without any cache, this "
            "share of what the fleet can prefill; 0: as --speed says.",
            minimum=0,
        ),
    ] = 0.0
    prefill_tokens_per_sec: engine_options.PrefillSpeed = engine_options.PREFILL_TOKENS_PER_SEC
    decode_ms_per_token: engine_options.DecodeTime = engine_options.DECODE_MS_PER_TOKEN
    decode_ms_per_running: engine_options.DecodeTimeMore = engine_options.DECODE_MS_PER_RUNNING
    cache_tokens: engine_options.CacheSize = engine_options.CACHE_TOKENS
    max_running: engine_options.MaxRunning = engine_options.MAX_RUNNING
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
    routers: Annotated[
        int, Option(help="Routers before the fleet, to which the requests go in turn.", minimum=1, maximum=64)
    ] = 1
    share_ms: Annotated[
        float,
        Option(help="How often several routers tell each other what they know; 0: never.", unit="ms", minimum=0),
    ] = 20.0
    what_if: Annotated[
        bool,
        Option(
            help="The trace is a recording of a running router (telemetry.recording-folder): show how true the "
            "simulation of it is, its fleet measured from it, and then what other policies would have made of it."
        ),
    ] = False
    tune: Annotated[
        str,
        Option(
            help="Search the weights of this policy that suit the trace, and print them as YAML; --policy is left "
            "aside. Needs one more package: pip install 'cma>=4.0'.",
            pattern=rf"({'|'.join(SPACES)})?",
            form=" or ".join(SPACES),
        ),
    ] = ""
    tune_runs: Annotated[int, Option(help="How many simulations --tune may take for its search.", minimum=10)] = 80
    seed: Annotated[int, Option(help="Seed of what a policy leaves to chance.")] = 0

    @property
    def engine(self) -> EngineSettings:
        """The engine model's settings."""
        engine = engine_options.engine_settings(self)
        return msgspec.structs.replace(engine, chunk_tokens=self.chunk_tokens, kv_tokens=self.kv_tokens)

    @property
    def ratios(self) -> list[tuple[int, int]]:
        """Prefill and decode instances of each fleet to compare. Raises ConfigError when these aren't told."""
        halves = [each.partition("+") for each in self.instances.split(",")]
        if not all(decodes for _, _, decodes in halves):
            raise ConfigError(f"--instances {self.instances}: with --splitwise, give prefill and decode ones, as 6+2")
        return [(int(prefills), int(decodes)) for prefills, _, decodes in halves]

    @property
    def fleet(self) -> Fleet:
        """The fleet, the first one where several are compared. Raises ConfigError when more join than there are."""
        if not self.splitwise and not self.instances.isdigit():
            raise ConfigError(f"--instances {self.instances}: prefill and decode instances need --splitwise")
        number = sum(self.ratios[0]) if self.splitwise else int(self.instances)
        joins = tuple(float(each) for each in self.join_at.split(",") if each)
        if len(joins) >= number:
            raise ConfigError(f"--join-at {self.join_at}: one of {number} instances must be there at the start")
        return Fleet(number, self.engine, tuple(float(each) for each in self.speeds.split(",") if each), joins)

    @property
    def capacity(self) -> float:
        """What all instances prefill, in tokens/s; with pairs, the prefill instances of the first fleet."""
        if not self.splitwise:
            return self.fleet.prefill_tokens_per_sec
        return msgspec.structs.replace(self.fleet, instances=self.ratios[0][0]).prefill_tokens_per_sec

    @property
    def several(self) -> Routers:
        """The routers."""
        return Routers(self.routers, self.share_ms / 1000 if self.routers > 1 else 0.0)
