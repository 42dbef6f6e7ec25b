"""The part of the composition root that follows KV events: from engines' sockets to what lookups know."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from fd_router.app.caches import Caches
from fd_router.http.connection_pool import Pools
from fd_router.http.fetch import fetch
from fd_router.instances.instance import Instance
from fd_router.instances.kv_events.follower import KvEventFollower
from fd_router.instances.kv_events.sockets import Subscriptions
from fd_router.instances.registry import Registry
from fd_router.scheduling.environment import MakeLookup
from fd_router.scheduling.prefix.chain_hashes import salt_of
from fd_router.scheduling.prefix.engine_blocks import EngineBlocks, EngineCache
from fd_router.scheduling.prefix.told_lookup import OnTruth, ToldLookup
from fd_router.scheduling.ranks import rank_url
from fd_router.telemetry.metrics.kv_events import FollowedCache
from fd_router.telemetry.telemetry import Telemetry


class KvEvents(msgspec.Struct, frozen=True):
    """What follows KV events, and what it has learnt."""

    blocks: EngineBlocks
    follower: KvEventFollower
    close: Callable[[], None]  # listens no more
    on_truth: Callable[[str], OnTruth]  # for a role

    def lookup(self, role: str) -> MakeLookup:
        """Return how policies of ``role`` look prompts up."""
        return partial(ToldLookup, blocks=self.blocks, clock=time.monotonic, on_truth=self.on_truth(role))


class _EngineCaches:
    """The caches of instances among the engine blocks, under the names that policies know them by."""

    def __init__(self, blocks: EngineBlocks, caches: Caches) -> None:
        self._blocks = blocks
        self._caches = caches
        self._names: dict[str, Sequence[str]] = {}  # by the instance's key

    def open(self, instance: Instance, ranks: int) -> Sequence[EngineCache]:
        """See ``follower.Caches``."""
        if ranks > 1 and instance.role != "mixed":
            return ()
        if ranks > 1:
            self._caches.note_ranks(instance, ranks)
        names = [rank_url(instance.url, rank) for rank in range(ranks)] if ranks > 1 else [instance.url]
        self._names[instance.key] = names
        return [self._blocks.cache(name) for name in names]

    def close(self, instance: Instance) -> None:
        """See ``follower.Caches``."""
        for name in self._names.pop(instance.key, ()):
            self._blocks.remove(name)


def build_kv_events(registry: Registry, pools: Pools, caches: Caches, telemetry: Telemetry) -> KvEvents:
    """Build what follows the events of all instances that publish some."""
    blocks = EngineBlocks(time.monotonic, partial(_seed_of, registry))
    subscriptions = Subscriptions(time.monotonic, blocks.flush)

    async def get(instance: Instance, path: str, time_limit: float) -> tuple[int, bytes]:
        return await fetch(pools.of(instance), "GET", path, time_limit=time_limit)

    follower = KvEventFollower(
        registry.all, get, subscriptions, _EngineCaches(blocks, caches), clock=time.monotonic, log=telemetry.log
    )
    metrics = telemetry.metrics.kv_events
    metrics.watch(partial(_followed, subscriptions))
    return KvEvents(blocks, follower, subscriptions.close, metrics.truth)


def _followed(subscriptions: Subscriptions) -> Sequence[FollowedCache]:
    """Describe each cache that is followed."""
    pairs = [(each.cache, each.stream) for each in subscriptions.all()]
    return [
        FollowedCache(cache.name, cache.size, cache.is_whole, cache.counts, stream.counts, cache.orphans)
        for cache, stream in pairs
        if isinstance(cache, EngineCache)
    ]


def _seed_of(registry: Registry, adapter: str) -> int:
    """Return what requests for ``adapter`` have as ``cache_seed``; one that no request can name has one of its own."""
    return registry.served_models.cache_seed(adapter) or salt_of(adapter.encode("utf-8", "surrogatepass"))
