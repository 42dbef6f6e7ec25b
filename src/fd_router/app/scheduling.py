"""The part of the composition root that builds policies, and keeps up what they need: index, loads, tokenizer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from fd_router.api.explain import ExplainApi, Prepare
from fd_router.app.caches import Caches
from fd_router.app.kv_wanted import wants_kv_events
from fd_router.app.recording import build_recording
from fd_router.app.shadow import make_shadow
from fd_router.app.tokenizer import build_tokenizer
from fd_router.config.loading import Config, SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.http.connection_pool import Pools
from fd_router.instances.cache_prober import CacheProber
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.doubt import Doubt
from fd_router.instances.instance import Health, Instance
from fd_router.instances.load_pages import LoadPages
from fd_router.instances.load_scraper import LoadScraper, OnCount
from fd_router.instances.registry import Registry
from fd_router.openai.completion import Completion
from fd_router.openai.endpoints import Endpoint
from fd_router.scheduling.decision_header import DecisionHeaderPolicy
from fd_router.scheduling.environment import Choice, Environment, Later, MakeLookup
from fd_router.scheduling.explanation import Verdict, draw_with
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.plugins.errors import PluginErrors
from fd_router.scheduling.plugins.guard import PluginGuard
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.policies.per_role import NamedPolicy, needs_of, policies_of, problems_of, shadow_of
from fd_router.scheduling.policy import Need, Policy
from fd_router.scheduling.prefix.index import CHARACTERS_PER_TOKEN, PrefixIndex
from fd_router.scheduling.prefix.sessions import Sessions
from fd_router.scheduling.prefix.told_index import ToldPrefixIndex
from fd_router.scheduling.ranks import Ranks
from fd_router.scheduling.recording.recorded_policy import RecordedPolicy
from fd_router.scheduling.recording.recorded_views import RecordedIndex, RecordedLoads, RecordedToldIndex
from fd_router.scheduling.recording.recorder import Recorder
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.timing import TimedPolicy
from fd_router.state.topics.learning import SharedLearning
from fd_router.telemetry.cache_line import cache_line
from fd_router.telemetry.debug_lines import choice_lines
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.instruments import Histogram
from fd_router.telemetry.metrics.scheduling import DECISION_BOUNDS, observe_hit
from fd_router.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from fd_router.app.kv_events import KvEvents

TIMED_DECISIONS = 8
"""One decision of so many is timed: looking at a clock twice takes longer than most decisions."""

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
) -> Scheduling:
    """Build the policies that ``config`` names, and keep up what they need. Raises ConfigError.

    ``learning``: by which what is learnt is told to other routers; None: this one is alone.
    """
    options = config.scheduler
    named = policies_of(config)
    shadows = shadow_of(config)
    if problems := [each for those in (named, shadows) for each in problems_of(those, options, time.monotonic, rng)]:
        raise ConfigError(*problems)
    in_force = needs_of(named, options.policy_folder)
    needs = in_force | needs_of(shadows, options.policy_folder)
    recording = build_recording(config, telemetry.log)
    recorder = recording.recorder if recording is not None else None
    shared = _share(options, learning) if recorder is None else _share_recorded(options, learning, recorder)
    tokenizer = build_tokenizer(options, pools, telemetry) if Need.TOKEN_IDS in needs else None
    scraper, pages = None, LoadPages(pools)
    if Need.REPORTED_LOADS in needs:
        keeps_sizes = Need.PREFIX_INDEX in needs and not options.cache_instance_max_blocks
        on_capacity = partial(_limit, shared.index, 1 if tokenizer is not None else CHARACTERS_PER_TOKEN)
        scraper = _make_scraper(
            options, registry, pages, telemetry, shared.loads, on_count, on_capacity if keeps_sizes else None
        )
    runs: list[Run] = [] if scraper is None else [scraper.run]
    if recording is not None:
        runs.append(recording.run)
    ranks = Ranks[Instance]() if Need.PREFIX_INDEX in needs and "mixed" in named else None
    caches = _caches(shared.index, ranks, options, telemetry, has_tokens=tokenizer is not None)
    kv_events = None
    if Need.PREFIX_INDEX in needs and wants_kv_events(
        options, telemetry.log, has_tokens=tokenizer is not None, is_recorded=recorder is not None
    ):
        from fd_router.app.kv_events import build_kv_events  # noqa: PLC0415  (NumPy)

        kv_events = build_kv_events(registry, pools, caches, telemetry)
        runs += kv_events.runs
    if Need.PREFIX_INDEX in needs:
        runs.append(CacheProber(registry.all, pages.get, caches.on_facts, time.monotonic).run)
        telemetry.metrics.scheduling.watch_index(shared.index)
        runs.insert(0, partial(_sweep, shared.index, options.eviction_interval_secs, telemetry.log))

    def make_policies() -> dict[str, Policy]:
        return {role: make_one(role, policy) for role, policy in named.items()}

    def make_one(role: str, named: NamedPolicy) -> Policy:
        has_index = Need.PREFIX_INDEX in in_force
        load_table = LoadTable()
        lookup = None if kv_events is None else kv_events.lookup(role)
        policy = _make_policy(
            config, role, named, shared, telemetry, rng, load_table=load_table, reports_choices=has_index, lookup=lookup
        )
        if (shadow := shadows.get(role)) is not None:
            index = shared.index if has_index else None
            policy = make_shadow(policy, shadow, role, options, telemetry, index, shared.loads, load_table)
        return DecisionHeaderPolicy(policy, role, named.name) if config.proxy.explain_header != "off" else policy

    policies = make_policies()
    changes = _FleetChanges(shared, scraper, tuple(policies.values()), pages, caches, kv_events)
    registry.on_change(changes.on_change)
    return Scheduling(
        policies=policies,
        make_policies=make_policies,
        keep_policies=changes.keep_policies,
        names={role: policy.name for role, policy in named.items()},
        cached_blocks=shared.index.blocks_of if Need.PREFIX_INDEX in needs else None,
        prepare=tokenizer.prepare if tokenizer is not None else None,
        runs=runs,
        close=partial(_close, *(part for part in (tokenizer, recording, kv_events) if part is not None)),
        index=shared.index if Need.PREFIX_INDEX in needs else None,
        ranks=ranks,
        needs_precedence=Need.PRECEDENCE in in_force,
        recorder=recorder,
    )


class _Shared(msgspec.Struct, frozen=True):
    """What the policies of all roles look at."""

    index: PrefixIndex
    loads: ReportedLoads
    learning: SharedLearning | None
    recorder: Recorder | None = None


def _share(options: SchedulerConfig, learning: SharedLearning | None) -> _Shared:
    index = make_index(time.monotonic, options, PrefixIndex if learning is None else ToldPrefixIndex)
    return _Shared(index, ReportedLoads(time.monotonic, options.load_max_age_secs), learning)


def _share_recorded(options: SchedulerConfig, learning: SharedLearning | None, recorder: Recorder) -> _Shared:
    kind = RecordedIndex if learning is None else RecordedToldIndex
    index, loads = make_index(recorder.clock, options, kind), RecordedLoads(recorder.clock, options.load_max_age_secs)
    assert isinstance(index, RecordedIndex)
    index.recorder = loads.recorder = recorder
    return _Shared(index, loads, learning, recorder)


def _make_policy(
    config: Config,
    role: str,
    named: NamedPolicy,
    shared: _Shared,
    telemetry: Telemetry,
    rng: random.Random,
    *,
    load_table: LoadTable,
    reports_choices: bool,
    lookup: MakeLookup | None,
) -> Policy:
    """Build the policy of one role, and what stands around it. Raises ConfigError."""
    metrics, log = telemetry.metrics.scheduling, telemetry.log
    recorder = shared.recorder
    later: Later | None = asyncio.get_running_loop().call_later if role == "mixed" else None  # a pair is sent at once
    if recorder is not None:
        later = None if later is None else recorder.later(later)
        rng = recorder.random
    environment = Environment(
        time.monotonic if recorder is None else recorder.clock,
        rng,
        _ChoiceReport(telemetry, metrics.hits(role), config.scheduler) if reports_choices else None,
        role=role,
        predictions=telemetry.metrics.predictions.of(role),
        later=later,
        index=shared.index,
        reported_loads=shared.loads,
        load_table=load_table,
        learning=shared.learning,
        lookup=lookup,
    )
    policy = make_policy(named.name, environment, config.scheduler, own_options=named.options, key=named.key)
    if recorder is not None:
        policy = RecordedPolicy(policy, recorder, role, named.name)
    if named.is_plugin:
        count = partial(metrics.policy_failed, named.name)
        errors = PluginErrors(named.name, count=count, log=log.error, clock=time.monotonic)
        policy = PluginGuard(policy, RequestNumPolicy(environment), errors)
    return TimedPolicy(policy, metrics.decisions(role), DECISION_BOUNDS, time.perf_counter, every=TIMED_DECISIONS)


class _ChoiceReport:
    """Tells the log and the metrics how the cache-aware policy of a role came to a choice."""

    def __init__(self, telemetry: Telemetry, hits: Histogram, options: SchedulerConfig) -> None:
        self._telemetry = telemetry
        self._hits = hits
        self._weights = options.hit_ratio_weight, options.load_balance_weight
        self._sessions = Sessions()  # a session has an instance in each role

    def __call__(self, request: RequestView, choice: Choice) -> None:
        completion, log = cast("Completion", request), self._telemetry.log
        observe_hit(self._hits, choice.hit)
        if log.info_on and completion.notes is not None:
            completion.notes.append(cache_line(choice, time.time()))
        if log.debug_on:
            tokens = None if completion.token_ids is None else len(completion.token_ids)
            for line in choice_lines(choice, tokens, self._weights):
                log.debug(line, completion.tags)
        if completion.session_id:
            is_hit = self._sessions.visit(completion.session_id, choice.selected)
            if not completion.cache_lookups:
                self._telemetry.metrics.cache_request(is_hit)
        completion.cache_lookups += 1


class _FleetChanges:
    """Tells the policies, and what they look at, of instances that are gone or get nothing new."""

    def __init__(
        self,
        shared: _Shared,
        scraper: LoadScraper | None,
        policies: Sequence[Policy],
        pages: LoadPages,
        caches: Caches,
        kv_events: KvEvents | None,
    ) -> None:
        self._kv_events = kv_events
        self._shared = shared
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
            self._shared.loads.forget(instance.url)
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
    *,
    has_tokens: bool,
) -> Caches:
    """Build what learns of caches. An index of text has more blocks of the same size than one of tokens."""
    per_token = 1 if has_tokens else CHARACTERS_PER_TOKEN

    def index_blocks(tokens: int, blocks: int) -> int:
        return (tokens // options.cache_block_size or blocks) * per_token

    return Caches(index, ranks, None if options.cache_instance_max_blocks else index_blocks, telemetry.log.info)


def _limit(index: PrefixIndex, per_token: int, instance: Instance, blocks: int) -> None:
    index.set_limit(instance.url, blocks * per_token)


async def _sweep(index: PrefixIndex, interval: float, log: RouterLog) -> None:
    while True:
        await asyncio.sleep(interval)
        before = index.blocks
        while index.sweep():  # noqa: ASYNC110  (nothing is awaited: requests get their turn in between)
            await asyncio.sleep(0)
        log.debug(f"radix eviction: {before - index.blocks} of {before} blocks dropped")


class _Closable(Protocol):
    def close(self) -> None: ...


def _close(*parts: _Closable) -> None:
    for part in parts:
        part.close()
