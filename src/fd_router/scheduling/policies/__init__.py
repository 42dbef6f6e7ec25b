"""The scheduling strategies, one idea a file, and the table of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.loads import Loads, ReportedLoads
from fd_router.scheduling.plugins.adapter import adapt
from fd_router.scheduling.plugins.loading import CustomPolicy
from fd_router.scheduling.policies.least import ProcessTokensPolicy, RequestNumPolicy
from fd_router.scheduling.policies.metrics_score import MetricsScorePolicy, RemoteMetricsScorePolicy
from fd_router.scheduling.policies.power_of_two import PowerOfTwoPolicy
from fd_router.scheduling.policies.random import RandomPolicy
from fd_router.scheduling.policies.round_robin import RoundRobinPolicy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.ttft.decode_load import DecodeLoadPolicy

CACHE_AWARE = frozenset({"cache_aware", "remote_cache_aware", "ttft_aware"})
"""Those that need a prefix index."""

REMOTE = frozenset({"fd_remote_metrics_score", "remote_cache_aware"})
"""Those that need figures from the instances."""


def needs(names: Iterable[str], folder: str = "") -> frozenset[str]:
    """Return what policies of these names need beside the candidates' counts: ``index``, ``figures``.

    Raises ConfigError for one from elsewhere that can't be found.
    """
    found: set[str] = set()
    for name in names:
        if ":" in name:
            found |= CustomPolicy(name, folder).needs & {"index", "figures"}
        found |= {"index"} if name in CACHE_AWARE else set()
        found |= {"figures"} if name in REMOTE else set()
    return frozenset(found)


class Ingredients(msgspec.Struct, frozen=True):
    """What policies are made of. The policies of one router share the figures and the index."""

    environment: Environment
    options: SchedulerConfig
    figures: ReportedLoads
    index: PrefixIndex


Factory = Callable[[Ingredients], Policy]


def _cache_aware(given: Ingredients, loads: Loads) -> Policy:
    # NumPy takes a tenth of a second to import: only who needs it pays.
    from fd_router.scheduling.policies.cache_aware import CacheAwarePolicy, CacheAwareWeights  # noqa: PLC0415
    from fd_router.scheduling.prefix.block_hashes import BlockHasher  # noqa: PLC0415

    options = given.options
    weights = CacheAwareWeights(
        options.hit_ratio_weight,
        options.load_balance_weight,
        options.balance_abs_threshold,
        options.balance_rel_threshold,
    )
    return CacheAwarePolicy(given.environment, given.index, BlockHasher(options.cache_block_size), loads, weights)


def _ttft_aware(given: Ingredients) -> Policy:
    environment, options = given.environment, given.options
    if environment.role == "decode":  # where nothing is prefilled
        return DecodeLoadPolicy(environment)
    from fd_router.scheduling.prefix.block_hashes import BlockHasher  # noqa: PLC0415
    from fd_router.scheduling.ttft.policy import TtftAwarePolicy, TtftAwareWeights  # noqa: PLC0415

    weights = TtftAwareWeights(
        options.ttft_recompute_weight,
        options.ttft_decode_weight_ms,
        options.ttft_prefill_tokens_per_sec,
        options.ttft_feed_tokens,
    )
    hasher, learns_sizes = BlockHasher(options.cache_block_size), not options.cache_instance_max_blocks
    return TtftAwarePolicy(environment, given.index, hasher, weights, learns_sizes=learns_sizes)


POLICIES: Mapping[str, Factory] = MappingProxyType({
    "cache_aware": lambda given: _cache_aware(given, given.environment.load_table.running),
    "fd_metrics_score": lambda given: MetricsScorePolicy(given.environment),
    "fd_remote_metrics_score": lambda given: RemoteMetricsScorePolicy(
        given.environment, given.figures, given.options.waiting_weight
    ),
    "power_of_two": lambda given: PowerOfTwoPolicy(given.environment),
    "process_tokens": lambda given: ProcessTokensPolicy(given.environment),
    "random": lambda given: RandomPolicy(given.environment),
    # A waiting request is one of an instance's concurrent requests, as those in memory are, so it counts as one.
    "remote_cache_aware": lambda given: _cache_aware(
        given, given.figures.loads(1.0, given.environment.load_table.running)
    ),
    "request_num": lambda given: RequestNumPolicy(given.environment),
    "round_robin": lambda given: RoundRobinPolicy(given.environment),
    "ttft_aware": _ttft_aware,
})  # fmt: skip


def make_policy(
    name: str,
    environment: Environment,
    options: SchedulerConfig = SchedulerConfig(),  # noqa: B008  (frozen)
    *,
    figures: ReportedLoads | None = None,
    index: PrefixIndex | None = None,
    own_options: Mapping[str, Any] = MappingProxyType({}),
    key: str = "scheduler.policy",
) -> Policy:
    """Build the policy called ``name``. Raises ConfigError with the list of names for an unknown one.

    ``figures`` and ``index`` are for those that need them; without them they get empty ones. A name with a colon is
    that of a policy from elsewhere (see ``custom``), which gets ``own_options``; ``key`` is the option it was named by.
    """
    if ":" in name:
        figures = figures or ReportedLoads(environment.clock, options.load_max_age_secs)
        given = {"environment": environment, "index": index or make_index(environment, options), "figures": figures}
        return adapt(CustomPolicy(name, options.policy_folder, key).build(given, own_options))
    factory = POLICIES.get(name)
    if factory is None:
        raise ConfigError(f"scheduler policy {name!r} is not available; choose one of: {', '.join(sorted(POLICIES))}")
    figures = figures or ReportedLoads(environment.clock, options.load_max_age_secs)
    return factory(Ingredients(environment, options, figures, index or make_index(environment, options)))


def make_index(environment: Environment, options: SchedulerConfig) -> PrefixIndex:
    """Build the prefix index, which all roles may share: no instance has two roles at a time."""
    return PrefixIndex(
        environment.clock,
        max_blocks=options.cache_index_max_blocks,
        duration=options.eviction_duration_mins * 60,
        instance_blocks=options.cache_instance_max_blocks,
    )
