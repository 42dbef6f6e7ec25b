"""The part of the composition root that builds policies, and what they are made of: index, figures, tokenizer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

import msgspec

from fd_router.config import Config
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance
from fd_router.instances.load_scraper import LoadScraper
from fd_router.instances.registry import Registry
from fd_router.instances.tokenizer import Tokenizer, tokenizer_address
from fd_router.proxy.fetch import fetch
from fd_router.proxy.pool import Pools
from fd_router.scheduling.completion import Completion
from fd_router.scheduling.contract import Choice, Environment, Policy, RequestView
from fd_router.scheduling.loads import Figures
from fd_router.scheduling.policies import CACHE_AWARE, REMOTE, make_index, make_policy
from fd_router.scheduling.sessions import Sessions
from fd_router.telemetry.cache_line import cache_line
from fd_router.telemetry.telemetry import Telemetry

CHARACTERS_PER_TOKEN = 3
"""Without a tokenizer an instance's cache holds so many characters for each of its tokens, about."""


class _Address(msgspec.Struct, frozen=True):
    """Where an instance's metrics are when they have a port of their own."""

    key: str
    host: str
    port: int


class SchedulingParts:
    """Policies for all roles, the tasks that keep them fed, and what must happen before a selection (``prepare``)."""

    def __init__(
        self, config: Config, registry: Registry, pools: Pools, telemetry: Telemetry, rng: random.Random
    ) -> None:
        self._options = options = config.scheduler
        self._registry = registry
        self._pools = pools
        self._telemetry = telemetry
        self._random = rng
        self._figures = Figures(time.monotonic, options.load_max_age_secs)
        self._index = make_index(Environment(time.monotonic, rng), options)
        splitwise = config.server.splitwise
        names = {options.prefill_policy, options.decode_policy} if splitwise else {options.policy}
        self._is_cache_aware = bool(names & CACHE_AWARE)
        self._scraper = self._make_scraper() if names & REMOTE else None
        self.prepare = self._make_prepare() if options.tokenizer_url and self._is_cache_aware else None
        registry.on_change(self._on_change)

    def make_policy(self, name: str) -> Policy:
        """Build a policy for one role. Raises ConfigError for an unknown name."""
        # A session has an instance in each role, so each has sessions of its own.
        environment = Environment(time.monotonic, self._random, partial(self._on_choice, Sessions()))
        return make_policy(name, environment, self._options, figures=self._figures, index=self._index)

    def tasks(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run as long as the router does."""
        sweeping = [self._sweep()] if self._is_cache_aware else []
        return sweeping + ([self._scraper.run()] if self._scraper is not None else [])

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
        )

    def _make_prepare(self) -> Callable[[Completion], Awaitable[None] | None]:
        address = tokenizer_address(self._options.tokenizer_url)

        async def post(body: bytes, time_limit: float) -> tuple[int, bytes]:
            return await fetch(self._pools.of(address), "POST", address.path, body, time_limit=time_limit)

        return Tokenizer(
            post,
            clock=time.monotonic,
            log=self._telemetry.log,
            time_limit=self._options.tokenizer_timeout_secs,
            max_concurrent=self._options.tokenizer_max_concurrent,
        ).prepare

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
        if kind is ChangeKind.REMOVED:
            self._pools.retire(_metrics_address(instance).key)

    def _on_choice(self, sessions: Sessions, request: RequestView, choice: Choice) -> None:
        completion, log = cast("Completion", request), self._telemetry.log
        if choice.reason and log.warn_on:
            log.warn(cache_line(choice, time.time()), completion.tags, at_once=False)
        elif log.info_on:
            log.info(cache_line(choice, time.time()), completion.tags)
        if completion.session_id:
            is_hit = sessions.visit(completion.session_id, choice.selected)
            if not completion.selections:
                self._telemetry.metrics.cache_request(is_hit)
        completion.selections += 1

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._options.eviction_interval_secs)
            while self._index.sweep():  # noqa: ASYNC110  (nothing is awaited: requests get their turn in between)
                await asyncio.sleep(0)


def _metrics_address(instance: Instance) -> _Address:
    port = instance.registration.metrics_port
    host = instance.host
    return _Address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", host, port)
