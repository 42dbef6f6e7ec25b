"""The model prober: asks instances which models they serve, before they get requests and then at a slow pace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from fd_router.config.live import LiveConfig
from fd_router.config.models import ModelsConfig
from fd_router.engines.model_cards import ModelCard, read_model_cards
from fd_router.errors import UpstreamError
from fd_router.http.pace import gather_few
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry

GetPage = Callable[[Registration, str, float], Awaitable[tuple[int, bytes]]]
"""(whom to ask, path, timeout in seconds) → status and body of a GET. Raises UpstreamError."""

MAX_SECONDS = 2.0
"""How long the answer may take: an instance that is healthy waits for its first request meanwhile."""

PAUSE_SECS = 0.5
"""How long after something showed that models matter the first are asked: what shows it is mostly a request's 404, and
what an engine logs then isn't to look like a second try of it."""

MAX_CONCURRENT = 16
"""Instances that are asked at a time."""


class ModelProber:
    """Keeps up what the registry knows of the models of those instances that don't tell them in their registrations.

    Nobody is asked as long as nothing shows that models matter (``models.discovery``: auto), unless its dialect says
    that it is of engines which go by the name. From then on all are.
    """

    def __init__(self, registry: Registry, get_page: GetPage, live: LiveConfig) -> None:
        self._registry = registry
        self._get_page = get_page
        self._live = live
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._is_wanted = False  # something has shown that models matter
        self._woken = asyncio.Event()
        self._asked: set[str] = set()  # keys, since all were asked last
        self._turn = asyncio.Lock()  # of who wants to know
        live.subscribe(ModelsConfig, lambda _: self._look())
        registry.on_change(lambda _: self._look())

    async def learn(self, registration: Registration) -> None:
        """Ask an instance, if its models are to be learnt in this way, and tell the registry. Never raises."""
        dialect = self._registry.dialect_of(registration)
        if registration.models or not dialect.models_path or self._live.current.models.discovery == "never":
            return
        if not (self._is_wanted or dialect.goes_by_model):
            return
        self._asked.add(registration.key)
        if (cards := await self._ask(registration, dialect.models_path)) is not None:
            self._registry.learn_models(registration.key, cards)

    async def ensure(self) -> None:
        """Somebody wants to know the models: ask those healthy members of which none are known, each once.

        Who comes meanwhile waits for what they answer.
        """
        self.want()
        async with self._turn:
            unknown = [x for x in self._registry.all() if not x.models and x.key not in self._asked]
            await self._learn_all(unknown)

    def want(self) -> None:
        """Something shows that models matter: ask everybody soon, and again and again from now on."""
        if not self._is_wanted:
            self._is_wanted = True
            self._woken.set()

    async def run(self) -> None:
        """Ask the healthy members again and again, until cancelled."""
        while True:
            await self._sleep()
            self._asked.clear()
            await self._learn_all(self._registry.all())

    def _look(self) -> None:
        """See whether models matter by now: an instance tells its own, or the options name some."""
        options = self._live.current.models
        has_names = bool(options.aliases or options.fallbacks or options.default or options.strict)
        if options.discovery == "always" or has_names or self._registry.served_models.names:
            self.want()

    async def _sleep(self) -> None:
        """Sleep for the interval, or until somebody wants to know."""
        naps = [
            asyncio.ensure_future(self._live.sleep(lambda config: config.models.refresh_interval_secs)),
            asyncio.ensure_future(self._woken.wait()),
        ]
        try:
            await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for nap in naps:
                nap.cancel()
        if self._woken.is_set():
            self._woken.clear()
            await asyncio.sleep(PAUSE_SECS)

    async def _learn_all(self, instances: Iterable[Instance]) -> None:
        healthy = [instance for instance in instances if instance.health is Health.HEALTHY]
        await gather_few(self._learn_in_turn, (instance.registration for instance in healthy), MAX_CONCURRENT)

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
        return f"<ModelProber {'asks' if self._is_wanted else 'asks nobody'}>"
