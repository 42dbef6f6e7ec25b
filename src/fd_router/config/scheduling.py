"""Which instance serves a request: the scheduler's options."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from fd_router.config.options import Option
from fd_router.config.policies import BUILT_IN

POLICIES: Final = tuple(BUILT_IN)
"""The names of the policies that come with the router."""

POLICY_PATTERN: Final = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
"""A plug-in policy: ``my_package.my_module:MyPolicy``."""


SHADOW_PATTERN: Final = rf"({'|'.join(BUILT_IN)}|{POLICY_PATTERN})?"


def _policy(help: str) -> Option:  # noqa: A002
    form = "my_module:MyPolicy for one of your own"
    return Option(help=help, choices=POLICIES, pattern=POLICY_PATTERN, form=form, flag=True)


class SchedulerConfig(msgspec.Struct, frozen=True):
    """Which instance serves a request."""

    policy: Annotated[str, _policy("Policy that chooses among mixed instances.")] = "request_num"
    policy_options: Annotated[
        dict[str, Any], Option(help="Options of the policy's own; they win over the keys below.")
    ] = msgspec.field(default_factory=dict)
    prefill_policy: Annotated[str, _policy("Policy that chooses the prefill instance (splitwise).")] = "process_tokens"
    prefill_policy_options: Annotated[dict[str, Any], Option(help="The same for the prefill-policy.")] = msgspec.field(
        default_factory=dict
    )
    decode_policy: Annotated[str, _policy("Policy that chooses the decode instance (splitwise).")] = "request_num"
    decode_policy_options: Annotated[dict[str, Any], Option(help="The same for the decode-policy.")] = msgspec.field(
        default_factory=dict
    )
    shadow_policy: Annotated[
        str,
        Option(
            help="A policy that decides beside the one of the mixed (splitwise: the prefill) instances, for as many "
            "requests as 5 % of the CPU time allow; it has figures only (fd_router_shadow_*), and is shown by explain.",
            pattern=SHADOW_PATTERN,
            form="a policy's name, or my_module:MyPolicy for one of your own",
        ),
    ] = ""
    shadow_policy_options: Annotated[
        dict[str, Any], Option(help="Options of the shadow policy's own; it has the keys below in common.")
    ] = msgspec.field(default_factory=dict)
    policy_folder: str = ""  # no option: where the configuration file lies, and perhaps a policy of its own
    decode_alone_below_tokens: Annotated[
        int,
        Option(
            live=True,
            help="Splitwise: a prompt of which the decode instance lacks fewer tokens than this is served there alone, "
            "where its engine can (vLLM); a cache-aware decode-policy tells what is cached there. 0: pairs serve all.",
            unit="tokens",
            minimum=0,
        ),
    ] = 0
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
    ttft_recompute_weight: Annotated[
        float,
        Option(
            help="ttft_aware: what computing again what another instance has cached costs, beside the time it takes.",
            minimum=0,
        ),
    ] = 1.5
    ttft_decode_weight_ms: Annotated[
        float,
        Option(help="ttft_aware: what each running request adds to the prediction.", unit="ms", minimum=0),
    ] = 3.0
    ttft_prefill_tokens_per_sec: Annotated[
        float,
        Option(
            help="ttft_aware: how fast an instance prefills, as long as no first tokens have told.",
            unit="tokens/s",
            minimum=1,
            zero_is_default=True,
        ),
    ] = 10_000.0
    ttft_feed_tokens: Annotated[
        int,
        Option(
            help="ttft_aware: what an instance may have to prefill at once, unless it is one longer prompt: a batch of "
            "the engine. Further prompts wait in the router, where the shortest goes first. 0: none waits there.",
            unit="tokens",
            minimum=0,
        ),
    ] = 8192
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
            pattern=r"((https?://)?[^\s/:]\S*)?",
            form="an http:// or https:// URL, or HOST:PORT",
        ),
    ] = ""
    tokenizer_messages: Annotated[
        bool,
        Option(
            help="The tokenizer service is the `/tokenize` of an engine (vLLM, SGLang): it is asked with a chat's "
            "messages and tools, and tells the exact tokens by its own chat template. Off: with the prompt's text."
        ),
    ] = False
    tokenizer_path: Annotated[
        str,
        Option(
            help="Hugging Face's tokenizer.json, or the folder that has it, for a tokenizer in the router itself. "
            "Needs one more package: pip install 'tokenizers>=0.20'."
        ),
    ] = ""
    kv_events: Annotated[
        str,
        Option(
            help="Whether instances that publish the events of their KV caches (vLLM, SGLang) are listened to, so that "
            "what they hold is known and not guessed. auto: where there is a tokenizer, by which prompts are compared "
            "with it, and the package pyzmq; on: wherever they publish. Needs one more package: pip install "
            "'pyzmq>=25'.",
            choices=("auto", "on", "off"),
        ),
    ] = "auto"
    tokenizer_timeout_secs: Annotated[
        float, Option(help="How long the tokenizer may take.", unit="s", minimum=0.001, zero_is_default=True)
    ] = 2.0
    tokenizer_max_concurrent: Annotated[
        int, Option(help="Prompts at the tokenizer at one time; others wait.", minimum=1, zero_is_default=True)
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
        float,
        Option(live=True, help="How often the log gets the [stats] line.", unit="s", minimum=0.1, zero_is_default=True),
    ] = 5.0
