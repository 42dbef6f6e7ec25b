"""The table of built-in policies: what each is called, where its class is, and which flat options are its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec


class BuiltIn(msgspec.Struct, frozen=True):
    """A policy that comes with the router. Its class is imported when it is chosen: some need NumPy."""

    path: str  # module:class, within ``fd_router.scheduling``
    decode_path: str = ""  # of another class among decode instances, where nothing is prefilled
    flat: Mapping[str, str] = MappingProxyType({})  # option of its class → the attribute of ``SchedulerConfig``


_PREFIX: Final = {
    "hit_ratio_weight": "hit_ratio_weight",
    "load_balance_weight": "load_balance_weight",
    "balance_abs_threshold": "balance_abs_threshold",
    "balance_rel_threshold": "balance_rel_threshold",
    "block_size": "cache_block_size",
}

_TTFT: Final = {
    "recompute_weight": "ttft_recompute_weight",
    "decode_weight_ms": "ttft_decode_weight_ms",
    "prefill_tokens_per_sec": "ttft_prefill_tokens_per_sec",
    "feed_tokens": "ttft_feed_tokens",
    "block_size": "cache_block_size",
}

BUILT_IN: Final[Mapping[str, BuiltIn]] = MappingProxyType({
    "random": BuiltIn("policies.random:RandomPolicy"),
    "round_robin": BuiltIn("policies.round_robin:RoundRobinPolicy"),
    "power_of_two": BuiltIn("policies.power_of_two:PowerOfTwoPolicy"),
    "process_tokens": BuiltIn("policies.least:ProcessTokensPolicy"),
    "request_num": BuiltIn("policies.least:RequestNumPolicy"),
    "fd_metrics_score": BuiltIn("policies.metrics_score:MetricsScorePolicy"),
    "fd_remote_metrics_score": BuiltIn(
        "policies.metrics_score:RemoteMetricsScorePolicy", flat={"waiting_weight": "waiting_weight"}
    ),
    "cache_aware": BuiltIn("policies.cache_aware:CacheAwarePolicy", flat=_PREFIX),
    "remote_cache_aware": BuiltIn("policies.cache_aware:RemoteCacheAwarePolicy", flat=_PREFIX),
    "ttft_aware": BuiltIn("ttft.policy:TtftAwarePolicy", "ttft.decode_load:DecodeLoadPolicy", _TTFT),
})  # fmt: skip
"""FastDeploy's policies, by its names, and ``ttft_aware``. A new one is a line here and its file."""
