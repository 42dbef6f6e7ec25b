"""The composition root: the one place that builds the router's parts from each other, starts and stops them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fd_router.app.admission import build_admission
from fd_router.app.api import PAGE_ROUTES, Parts, build_routes
from fd_router.app.bugs import log_bugs, tell_if_broken
from fd_router.app.capacity import build_capacity
from fd_router.app.endpoints import endpoints_of, error_bodies, starts
from fd_router.app.exposure import warn_if_open
from fd_router.app.hops import Hops, build_hops, build_pools
from fd_router.app.link import build_link
from fd_router.app.membership import build_membership
from fd_router.app.models import prepare_models
from fd_router.app.ports import Ports
from fd_router.app.reload import Load, Reloader
from fd_router.app.routing import build_routing
from fd_router.app.runtime import build_runtime
from fd_router.app.scheduling import build_scheduling
from fd_router.app.serving import build_server_state
from fd_router.app.sources import build_sources
from fd_router.app.state import build_limits, build_state
from fd_router.app.stats import log_stats
from fd_router.app.tracing import build_tracing
from fd_router.app.vectors import load_vectors_ahead
from fd_router.app.workers.seat import Seat
from fd_router.config.loading import Config, Loaded
from fd_router.http.request_ids import RequestIds
from fd_router.http.server_context import ServerContext, build_server_context
from fd_router.http.tls import ClientSide
from fd_router.telemetry.logging.text_log import RouterLog

FIRST_PROBES_SECONDS = 0.5
"""How long clients wait for the known instances' first probes: until then there is nobody to send them to."""

TAKE_OVER_SECONDS = 2.0
"""The same where another router serves the clients meanwhile."""


class Router:
    """One running router: built from a configuration on the loop that runs it."""

    def __init__(self, config: Config, log: RouterLog, load: Load | None = None, seat: Seat | None = None) -> None:
        """``load`` reads the configuration anew, for a reload; None: it doesn't change. Raises ConfigError.

        ``seat``: of a worker; None: this process serves clients on its own.
        """
        self.runtime = runtime = build_runtime(config, log)
        self.state = state = build_server_state(runtime.live, runtime.sweeper, seat)
        self._client_tls = ClientSide(config.tls)
        ids = RequestIds()  # instances of a pair want theirs as UUIDs
        make_id = ids.next_uuid4 if config.server.splitwise else ids.next
        link = build_link(runtime, seat)
        hops = build_hops(runtime)
        self._pools = pools = build_pools(runtime, hops)
        self._membership = membership = build_membership(runtime, pools)
        registry = membership.registry
        self._capacity = capacity = build_capacity(runtime, registry, pools, link)
        self._scheduling = build_scheduling(
            config, registry, pools, runtime.telemetry, runtime.rng, capacity.on_count,
            learning=link.learning if link is not None else None,
            facts=link.facts if link is not None else None,
        )  # fmt: skip
        load_vectors_ahead(registry, runtime.loop)
        self._admission = admission = build_admission(runtime, state.budget, build_limits(runtime, link))
        capacity.headroom.on_capacity(admission.queues.on_capacity)
        self._sources = build_sources(runtime, registry, admission.networks)
        self._shared = build_state(
            runtime, link, seat, membership, self._sources, self._scheduling, admission,
            lambda: state.is_idle,
        )  # fmt: skip
        self._routing = build_routing(runtime, membership, pools, self._scheduling, admission, state, make_id)
        if self._shared is not None:
            self._shared.members.deadlines = self._routing.mover
        self._reloader = self._make_reloader(load or (lambda: Loaded(config)))
        self._tracing = build_tracing(runtime)
        self.context: ServerContext = self._make_context(hops, make_id, seat)
        self._ports = Ports(runtime, self.context, state, self._client_tls, seat)
        self._tasks: list[asyncio.Task[None]] = []

    def _make_reloader(self, load: Load) -> Reloader:
        admission, registry, tls = self._admission, self._membership.registry, self._client_tls
        prepared = (
            lambda new: tls.prepare(new.tls),
            lambda _: registry.access.prepare(),
            prepare_models,
            admission.prepare_tokens,
        )
        runtime, sources = self.runtime, self._sources.prepare_reload
        return Reloader(runtime.live, load, prepared, admission.reload_keys, sources=sources, log=runtime.log)

    def _make_context(self, hops: Hops, make_id: Callable[[], str], seat: Seat | None) -> ServerContext:
        """Make what connections need to know: who answers what."""
        runtime, admission = self.runtime, self._admission
        endpoints = endpoints_of(runtime.live.current.server)
        parts = Parts(
            runtime=runtime,
            membership=self._membership,
            sources=self._sources,
            admission=admission,
            capacity=self._capacity,
            scheduling=self._scheduling,
            routing=self._routing,
            reloader=self._reloader,
            state=self.state,
            pools=self._pools,
            resolver=hops.resolver,
            endpoints=endpoints,
            shared=self._shared,
            seat=seat,
        )
        return build_server_context(
            build_routes(parts),
            self._tracing.trace(starts(endpoints, self._routing.starters)),
            runtime.live,
            self.state,
            sweeper=runtime.sweeper,
            batcher=runtime.batcher,
            clock=runtime.clock,
            make_id=make_id,
            log=runtime.log,
            finish=runtime.telemetry.finish,
            keep_authorization=admission.keep_authorization,
            gate=admission.gate,
            forwarding=hops.forwarding,
            cors=hops.cors,
            page_routes=PAGE_ROUTES,
            error_bodies=error_bodies(endpoints),
        )

    def reload_soon(self) -> None:
        """Read all files anew; the log tells what came of it."""
        task = self.runtime.loop.create_task(self._reload())
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _reload(self) -> None:
        await self._reloader.reload()

    async def start(self) -> None:
        """Listen, probe, ask the sources for instances. Raises FdRouterError when the address can't be had."""
        runtime = self.runtime
        log = runtime.log
        log_bugs(runtime.loop, log)
        log.start(runtime.loop)
        runtime.sweeper.start()
        listener = await self._ports.bind()
        shows_keys = self._membership.registry.access.has_keys
        warn_if_open(self._admission, listener, self._ports.control, log, shows_keys=shows_keys)
        self._tasks = [runtime.loop.create_task(work) for work in self._work()]
        for task in self._tasks:
            task.add_done_callback(tell_if_broken)
        await self._sources.named()  # what is known already is probed before clients come
        await self._open(takes_over=listener.takes_over)

    def _work(self) -> Iterable[Coroutine[Any, Any, None]]:
        """Return what runs as long as the router does."""
        runtime = self.runtime
        yield self._membership.monitor.run()
        yield log_stats(runtime.live, self._membership.registry, runtime.telemetry)
        yield from self._scheduling.tasks()
        parts = (self._membership, self._capacity, self._routing, self._admission, self._sources, self._shared)
        for part in parts:
            if part is not None:
                for run in part.runs:
                    yield run()

    async def _open(self, *, takes_over: bool) -> None:
        """Let clients in, once it is known which of the instances that are named already can serve."""
        self._ports.announce()
        if self._shared is not None:
            await self._shared.join()
        with contextlib.suppress(TimeoutError):
            limit = TAKE_OVER_SECONDS if takes_over else FIRST_PROBES_SECONDS
            await asyncio.wait_for(self._membership.monitor.probe_all(), limit)
        await self._ports.open()

    async def drain(self, hurry: asyncio.Event) -> None:
        """Take no more, and wait until what is under way is over, or until ``hurry``."""
        await self._sources.finish()
        await self._ports.drain(hurry)

    async def stop(self) -> None:
        """End everything that still runs."""
        if self._shared is not None:
            await self._shared.sync.say_goodbye()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ports.close()
        self.state.abort()
        self._pools.close()
        self._scheduling.close()
        await asyncio.to_thread(self._tracing.close)
        await asyncio.sleep(0)  # let the transports tell that they are closed
        self.runtime.sweeper.stop()
