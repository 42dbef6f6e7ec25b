"""The model prober: asks instances which models they serve, before they get requests and then at a slow pace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fd_router.config.live import LiveConfig
from fd_router.engines.model_cards import ModelCard, read_model_cards
from fd_router.errors import UpstreamError
from fd_router.instances.instance import Health
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry

GetPage = Callable[[Registration, str, float], Awaitable[tuple[int, bytes]]]
"""(whom to ask, path, timeout in seconds) → status and body of a GET. Raises UpstreamError."""

MAX_SECONDS = 2.0
"""How long the answer may take: an instance that is healthy waits for its first request meanwhile."""

MAX_CONCURRENT = 16
"""Instances that are asked at a time."""


class ModelProber:
    """Keeps up what the registry knows of the models of those instances that don't tell them in their registrations.

    An instance that can't say serves any model: as before, and in a fleet of several what nobody else serves.
    """

    def __init__(self, registry: Registry, get_page: GetPage, live: LiveConfig) -> None:
        self._registry = registry
        self._get_page = get_page
        self._live = live
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def learn(self, registration: Registration) -> None:
        """Ask an instance, if its models are to be learnt in this way, and tell the registry. Never raises."""
        path = self._registry.dialect_of(registration).models_path
        if registration.models or not path or not self._live.current.models.refresh_interval_secs:
            return
        if (cards := await self._ask(registration, path)) is not None:
            self._registry.learn_models(registration.key, cards)

    async def run(self) -> None:
        """Ask the healthy members again and again, until cancelled."""
        while True:
            await self._live.sleep(lambda config: config.models.refresh_interval_secs or 1.0)
            members = [x for x in self._registry.all() if x.health is Health.HEALTHY]
            await asyncio.gather(*(self._learn_in_turn(member.registration) for member in members))

    async def _learn_in_turn(self, registration: Registration) -> None:
        async with self._slots:
            await self.learn(registration)

    async def _ask(self, registration: Registration, path: str) -> tuple[ModelCard, ...] | None:
        """Return the models, None when they can't be had: what is known of the instance stays."""
        limit = min(MAX_SECONDS, self._live.current.manager.health_check_timeout_secs)
        try:
            async with asyncio.timeout(limit):
                status, page = await self._get_page(registration, path, limit)
        except (TimeoutError, UpstreamError):
            return None
        return read_model_cards(page) if status == 200 else None

    def __repr__(self) -> str:
        return f"<ModelProber of {len(self._registry.all())} instances>"
