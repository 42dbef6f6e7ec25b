"""The part of the composition root that builds policies, and keeps up what they need: index, loads, tokenizer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from fd_router.api.explain import ExplainApi, Prepare
from fd_router.app.caches import Caches
from fd_router.app.kv_wanted import wants_kv_events
from fd_router.app.policies import PolicyMaker, read_names, share
from fd_router.app.tokenizer import build_tokenizer
from fd_router.config.loading import Config, SchedulerConfig
from fd_router.http.connection_pool import Pools
from fd_router.instances.cache_prober import CacheProber
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.doubt import Doubt
from fd_router.instances.instance import Health, Instance
from fd_router.instances.load_pages import LoadPages
from fd_router.instances.load_scraper import LoadScraper, OnCount
from fd_router.instances.registry import Registry
from fd_router.openai.endpoints import Endpoint
from fd_router.scheduling.explanation import Verdict, draw_with
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.policy import Need, Policy
from fd_router.scheduling.prefix.index import CHARACTERS_PER_TOKEN, PrefixIndex
from fd_router.scheduling.ranks import Ranks
from fd_router.state.topics.facts import SharedFacts
from fd_router.state.topics.learning import SharedLearning
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.telemetry import Telemetry

if TYPE_CHECKING:  # these need NumPy, and most routers don't
    from fd_router.app.kv_events import KvEvents
    from fd_router.app.recording import Recording
    from fd_router.scheduling.recording.recorder import Recorder

Run = Callable[[], Coroutine[Any, Any, None]]
"""Begins what runs as long as the router does."""


class Scheduling(msgspec.Struct, frozen=True):
    """The policies, ready to choose, and what must happen beside and before their choices."""

    policies: Mapping[str, Policy]  # by role
    make_policies: Callable[[], Mapping[str, Policy]]  # the same once more, for instances of another model
    keep_policies: Callable[[Sequence[Mapping[str, Policy]]], None]  # those that are in use, of all that were made
    names: Mapping[str, str]  # of the policies, by role
    cached_blocks: Callable[[str], int] | None  # of the instance with this URL, where prefixes are remembered
    prepare: Prepare | None  # what must happen before a selection
    runs: Sequence[Run]
    close: Callable[[], None]  # lets go of what the parts work with
    index: PrefixIndex | None  # where prefixes are known, if a policy needs that
    ranks: Ranks[Instance] | None = None  # those that are candidates of mixed instances' policy; None: none are
    needs_precedence: bool = False  # whether policies want to know who goes before whom
    recorder: Recorder | None = None  # of what policies do; None: nothing is recorded

    def tasks(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run as long as the router does."""
        return [run() for run in self.runs]

    def explain_api(
        self, explain: Callable[..., Sequence[Verdict | str]], registry: Registry, endpoints: Sequence[Endpoint]
    ) -> ExplainApi:
        """Build the endpoint that shows what ``explain(completion, draw)`` says of every role."""
        explain = partial(explain, draw=draw_with(random.Random()))  # the policies' own draws stay as they are
        return ExplainApi(explain, registry.all, self.names, self.prepare, endpoints)


def build_scheduling(
    config: Config,
    registry: Registry,
    pools: Pools,
    telemetry: Telemetry,
    rng: random.Random,
    on_count: OnCount | None = None,
    *,
    learning: SharedLearning | None = None,
    facts: SharedFacts | None = None,
) -> Scheduling:
    """Build the policies that ``config`` names, and keep up what they need. Raises ConfigError.

    ``learning``, ``facts``: by which what is learnt, and what engines tell of their caches, is told to other routers;
    None: this one is alone.
    """
    options, names = config.scheduler, read_names(config, rng)
    recording = _recording(config, telemetry.log)
    recorder = recording.recorder if recording is not None else None
    views = share(options, learning, recorder)
    index = views.index if Need.PREFIX_INDEX in names.needs else None
    tokenizer = None
    if Need.TOKEN_IDS in names.needs:
        tokenizer = build_tokenizer(options, pools, telemetry, reads_engine_prompt=names.read_engine_prompt)
    per_token = 1 if tokenizer is not None else CHARACTERS_PER_TOKEN  # an index of text has so many more blocks
    pages, scraper = LoadPages(pools), None
    if Need.REPORTED_LOADS in names.needs:
        keeps_sizes = index is not None and not options.cache_instance_max_blocks
        on_capacity = partial(_limit, views.index, per_token) if keeps_sizes else None
        scraper = _make_scraper(options, registry, pages, telemetry, views.loads, on_count, on_capacity)
    ranks = Ranks[Instance]() if index is not None and "mixed" in names.in_force else None
    caches = _caches(views.index, ranks, options, telemetry, per_token)
    has_tokens, is_recorded = tokenizer is not None, recorder is not None
    kv_events = None
    if index is not None and wants_kv_events(options, telemetry.log, has_tokens=has_tokens, is_recorded=is_recorded):
        from fd_router.app.kv_events import build_kv_events  # noqa: PLC0415  (NumPy)

        kv_events = build_kv_events(registry, pools, caches, telemetry)
    follower = kv_events.follower if kv_events is not None else None
    runs: list[Run] = [part.run for part in (scraper, recording, follower) if part is not None]
    if index is not None:
        runs += _index_runs(index, options, registry, pages, caches, telemetry, facts)
        telemetry.metrics.scheduling.watch_index(index)
    maker = PolicyMaker(config, names, views, telemetry, rng, kv_events.lookup if kv_events is not None else None)
    policies = maker.make()
    changes = _FleetChanges(views.loads, scraper, tuple(policies.values()), pages, caches, kv_events)
    registry.on_change(changes.on_change)
    return Scheduling(
        policies=policies,
        make_policies=maker.make,
        keep_policies=changes.keep_policies,
        names={role: policy.name for role, policy in names.in_force.items()},
        cached_blocks=index.blocks_of if index is not None else None,
        prepare=tokenizer.prepare if tokenizer is not None else None,
        runs=runs,
        close=partial(_close, [part.close for part in (tokenizer, recording, kv_events) if part is not None]),
        index=index,
        ranks=ranks,
        needs_precedence=Need.PRECEDENCE in names.needs_in_force,
        recorder=recorder,
    )


class _FleetChanges:
    """Tells the policies, and what they look at, of instances that are gone or get nothing new."""

    def __init__(
        self,
        loads: ReportedLoads,
        scraper: LoadScraper | None,
        policies: Sequence[Policy],
        pages: LoadPages,
        caches: Caches,
        kv_events: KvEvents | None,
    ) -> None:
        self._kv_events = kv_events
        self._loads = loads
        self._caches = caches
        self._scraper = scraper
        self._policies = policies
        self._pages = pages

    def keep_policies(self, in_use: Sequence[Mapping[str, Policy]]) -> None:
        """Tell these from now on."""
        self._policies = tuple(policy for policies in in_use for policy in policies.values())

    def on_change(self, change: Change) -> None:
        """See ``Registry.on_change``."""
        instance, kind = change.instance, change.kind
        if kind is ChangeKind.REMOVED or _has_lost_its_cache(change):
            self._caches.on_lost(instance)
            self._loads.forget(instance.url)
            if self._kv_events is not None:
                self._kv_events.follower.drop(instance)
            if self._scraper is not None:
                self._scraper.forget(instance)
        if not instance.takes_new:
            for policy in self._policies:
                for name in self._caches.names(instance):
                    policy.on_instance_unavailable(name)
        if kind is ChangeKind.REMOVED:
            self._pages.forget(instance)
            self._caches.on_removed(instance)
        elif instance.registration.dp_size:
            self._caches.note_ranks(instance)


def _has_lost_its_cache(change: Change) -> bool:
    """Whether nobody listens there any more, so that the process has ended, or it says that it isn't well.

    One that only was late is busy, and comes back with all that it holds.
    """
    instance = change.instance
    if instance.health is Health.UNHEALTHY:
        return instance.doubt >= Doubt.SICK
    return change.kind is ChangeKind.SUSPECT and change.detail == "refused"


def _recording(config: Config, log: RouterLog) -> Recording | None:
    if not config.telemetry.recording_folder:
        return None
    from fd_router.app.recording import build_recording  # noqa: PLC0415  (NumPy)

    return build_recording(config, log)


def _make_scraper(
    options: SchedulerConfig,
    registry: Registry,
    pages: LoadPages,
    telemetry: Telemetry,
    loads: ReportedLoads,
    on_count: OnCount | None,
    on_capacity: Callable[[Instance, int], None] | None,
) -> LoadScraper:
    return LoadScraper(
        registry.all,
        pages.get,
        loads,
        clock=time.monotonic,
        log=telemetry.log,
        interval=options.load_scrape_interval_secs,
        max_age=options.load_max_age_secs,
        on_capacity=on_capacity,
        on_count=on_count,
    )


def _caches(
    index: PrefixIndex,
    ranks: Ranks[Instance] | None,
    options: SchedulerConfig,
    telemetry: Telemetry,
    per_token: int,
) -> Caches:
    """Build what learns of caches. The index has ``per_token`` blocks for one of the engine's of the same size."""

    def index_blocks(tokens: int, blocks: int) -> int:
        return (tokens // options.cache_block_size or blocks) * per_token

    return Caches(index, ranks, None if options.cache_instance_max_blocks else index_blocks, telemetry.log.info)


def _limit(index: PrefixIndex, per_token: int, instance: Instance, blocks: int) -> None:
    index.set_limit(instance.url, blocks * per_token)


def _index_runs(
    index: PrefixIndex,
    options: SchedulerConfig,
    registry: Registry,
    pages: LoadPages,
    caches: Caches,
    telemetry: Telemetry,
    facts: SharedFacts | None,
) -> list[Run]:
    """Return what forgets what is old, and what learns how large caches are."""
    prober = CacheProber(registry.all, pages.get, caches.on_facts, time.monotonic, facts)
    if facts is not None:
        facts.on_told = prober.hear
    return [partial(_sweep, index, options.eviction_interval_secs, telemetry.log), prober.run]


async def _sweep(index: PrefixIndex, interval: float, log: RouterLog) -> None:
    while True:
        await asyncio.sleep(interval)
        before = index.blocks
        while index.sweep():  # noqa: ASYNC110  (nothing is awaited: requests get their turn in between)
            await asyncio.sleep(0)
        log.debug(f"radix eviction: {before - index.blocks} of {before} blocks dropped")


def _close(closes: Sequence[Callable[[], None]]) -> None:
    for close in closes:
        close()
