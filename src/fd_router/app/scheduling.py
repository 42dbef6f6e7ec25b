"""The part of the composition root that builds policies, and what they are made of: index, figures, tokenizer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

import msgspec

from fd_router.api.explain import ExplainApi
from fd_router.config.loading import Config
from fd_router.errors import ConfigError
from fd_router.http.connection_pool import Pools
from fd_router.http.fetch import fetch
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance
from fd_router.instances.load_scraper import LoadScraper, OnCount
from fd_router.instances.registry import Registry
from fd_router.openai.completion import Completion
from fd_router.scheduling.decision_header import DecisionHeaderPolicy
from fd_router.scheduling.environment import Choice, Environment
from fd_router.scheduling.explanation import Verdict, draw_with
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.plugins.errors import PluginErrors
from fd_router.scheduling.plugins.guard import PluginGuard
from fd_router.scheduling.plugins.per_role import policies_of, problems_of
from fd_router.scheduling.policies import make_index, make_policy, needs
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.prefix.index import CHARACTERS_PER_TOKEN
from fd_router.scheduling.prefix.sessions import Sessions
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.timing import TimedPolicy
from fd_router.telemetry.cache_line import cache_line
from fd_router.telemetry.metrics.instruments import Histogram
from fd_router.telemetry.metrics.scheduling import DECISION_BOUNDS, observe_hit
from fd_router.telemetry.telemetry import Telemetry
from fd_router.tokenization.local import BOTH_TOKENIZERS, LocalTokenizer, open_encoder
from fd_router.tokenization.service import ServiceTokenizer, Tokenizer, tokenizer_address

TIMED_DECISIONS = 8
"""One decision of so many is timed: looking at a clock twice takes longer than most decisions."""


class _Address(msgspec.Struct, frozen=True):
    """Where an instance's metrics are when they have a port of their own."""

    key: str
    host: str
    port: int


class SchedulingParts:
    """Policies for all roles, the tasks that keep them fed, and what must happen before a selection (``prepare``)."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        pools: Pools,
        telemetry: Telemetry,
        rng: random.Random,
        on_count: OnCount | None = None,
    ) -> None:
        self._options = options = config.scheduler
        self._on_count = on_count
        self._registry = registry
        self._pools = pools
        self._telemetry = telemetry
        self._random = rng
        self._figures = ReportedLoads(time.monotonic, options.load_max_age_secs)
        self._index = make_index(Environment(time.monotonic, rng), options)
        self._on_gone: list[Callable[[str], None]] = []  # policies that want to hear of it
        self._explain_header = config.proxy.explain_header != "off"
        self._policies = policies_of(config)
        if problems := problems_of(self._policies, options, Environment(time.monotonic, rng)):
            raise ConfigError(*problems)
        needed = needs((policy.name for policy in self._policies.values()), options.policy_folder)
        self._is_cache_aware = "index" in needed
        if self._is_cache_aware:
            telemetry.metrics.scheduling.watch_index(self._index)
        self._scraper = self._make_scraper() if "figures" in needed else None
        self._tokenizer = self._make_tokenizer() if self._is_cache_aware else None
        self.prepare = self._tokenizer.prepare if self._tokenizer is not None else None
        registry.on_change(self._on_change)

    def make_policy(self, role: str) -> Policy:
        """Build the policy for one role. Raises ConfigError."""
        # A session has an instance in each role, so each has sessions of its own.
        metrics = self._telemetry.metrics.scheduling
        on_choice = partial(self._on_choice, Sessions(), metrics.hits(role)) if self._is_cache_aware else None
        environment = Environment(
            time.monotonic,
            self._random,
            on_choice,
            role=role,
            predictions=self._telemetry.metrics.predictions.of(role),
            later=asyncio.get_running_loop().call_later if role == "mixed" else None,  # a pair is sent at once
        )
        named = self._policies[role]
        policy = make_policy(
            named.name,
            environment,
            self._options,
            figures=self._figures,
            index=self._index,
            own_options=named.options,
            key=named.key,
        )
        if named.is_custom:
            policy = PluginGuard(policy, RequestNumPolicy(environment), self._make_trouble(named.name))
        self._on_gone.append(policy.on_instance_unavailable)
        policy = TimedPolicy(policy, metrics.decisions(role), DECISION_BOUNDS, time.perf_counter, every=TIMED_DECISIONS)
        return DecisionHeaderPolicy(policy, role, named.name) if self._explain_header else policy

    def _make_trouble(self, name: str) -> PluginErrors:
        metrics, log = self._telemetry.metrics.scheduling, self._telemetry.log
        return PluginErrors(name, count=partial(metrics.policy_failed, name), log=log.error, clock=time.monotonic)

    def explain_api(self, explain: Callable[..., Sequence[Verdict]]) -> ExplainApi:
        """Build the endpoint that shows what ``explain(request, draw)`` says of every role."""
        names = {role: named.name for role, named in self._policies.items()}
        explain = partial(explain, draw=draw_with(random.Random()))  # the policies' own draws stay as they are
        return ExplainApi(explain, self._registry.all, names, self.prepare)

    def tasks(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run as long as the router does."""
        sweeping = [self._sweep()] if self._is_cache_aware else []
        return sweeping + ([self._scraper.run()] if self._scraper is not None else [])

    def close(self) -> None:
        """Let go of what the parts work with."""
        if self._tokenizer is not None:
            self._tokenizer.close()

    def _make_scraper(self) -> LoadScraper:
        options = self._options
        return LoadScraper(
            self._registry.all,
            self._get_metrics,
            self._figures,
            clock=time.monotonic,
            log=self._telemetry.log,
            interval=options.load_scrape_interval_secs,
            max_age=options.load_max_age_secs,
            on_capacity=self._on_capacity if self._is_cache_aware and not options.cache_instance_max_blocks else None,
            on_count=self._on_count,
        )

    def _make_tokenizer(self) -> Tokenizer | None:
        options = self._options
        limits: dict[str, Any] = {
            "clock": time.monotonic,
            "log": self._telemetry.log,
            "time_limit": options.tokenizer_timeout_secs,
            "max_concurrent": options.tokenizer_max_concurrent,
        }
        if options.tokenizer_path and options.tokenizer_url:
            raise ConfigError(BOTH_TOKENIZERS)
        if options.tokenizer_path:
            return LocalTokenizer(open_encoder(options.tokenizer_path), **limits)
        if not options.tokenizer_url:
            return None
        address = tokenizer_address(options.tokenizer_url)

        async def post(body: bytes, time_limit: float) -> tuple[int, bytes]:
            return await fetch(self._pools.plain(address), "POST", address.path, body, time_limit=time_limit)

        return ServiceTokenizer(post, **limits)

    # what the parts call

    async def _get_metrics(self, instance: Instance, time_limit: float) -> tuple[int, bytes]:
        pool = self._pools.of(_metrics_address(instance))
        return await fetch(pool, "GET", "/metrics", time_limit=time_limit)

    def _on_capacity(self, instance: Instance, blocks: int) -> None:
        per_token = 1 if self.prepare is not None else CHARACTERS_PER_TOKEN
        self._index.set_limit(instance.url, blocks * per_token)

    def _on_change(self, change: Change) -> None:
        instance, kind = change.instance, change.kind
        # Nobody listens there any more: the process has ended, and its cache with it.
        refused = kind is ChangeKind.SUSPECT and change.detail == "refused"
        if refused or kind in (ChangeKind.DOWN, ChangeKind.REMOVED):
            self._index.remove(instance.url)
            self._figures.forget(instance.url)
            if self._scraper is not None:
                self._scraper.forget(instance)
        if not instance.takes_new:
            for on_instance_unavailable in self._on_gone:
                on_instance_unavailable(instance.url)
        if kind is ChangeKind.REMOVED:
            self._pools.retire(_metrics_address(instance).key)

    def _on_choice(self, sessions: Sessions, hits: Histogram, request: RequestView, choice: Choice) -> None:
        completion, log = cast("Completion", request), self._telemetry.log
        observe_hit(hits, choice.hit)
        if choice.reason and log.warn_on:
            log.warn(cache_line(choice, time.time()), completion.tags, at_once=False)
        elif log.info_on:
            log.info(cache_line(choice, time.time()), completion.tags)
        if completion.session_id:
            is_hit = sessions.visit(completion.session_id, choice.selected)
            if not completion.cache_lookups:
                self._telemetry.metrics.cache_request(is_hit)
        completion.cache_lookups += 1

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._options.eviction_interval_secs)
            while self._index.sweep():  # noqa: ASYNC110  (nothing is awaited: requests get their turn in between)
                await asyncio.sleep(0)


def _metrics_address(instance: Instance) -> _Address:
    port = instance.registration.metrics_port
    host = instance.host
    return _Address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", host, port)
