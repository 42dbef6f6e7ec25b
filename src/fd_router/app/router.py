"""The composition root: the one place that builds the router's parts from each other, starts and stops them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from typing import Any

from fd_router.api.access import open_to_all
from fd_router.api.models import ModelsApi
from fd_router.app.admission import build_admission
from fd_router.app.api import build_routes
from fd_router.app.bugs import log_bugs, tell_if_broken
from fd_router.app.capacity import build_capacity
from fd_router.app.endpoints import endpoints_of, error_bodies, starts
from fd_router.app.exposure import warn_if_open
from fd_router.app.hops import build_hops, build_pools
from fd_router.app.link import build_link
from fd_router.app.membership import build_membership
from fd_router.app.memory import usable_memory
from fd_router.app.models import prepare_models
from fd_router.app.reload import Load, Reloader
from fd_router.app.routing import build_routing
from fd_router.app.runtime import build_runtime
from fd_router.app.scheduling import build_scheduling
from fd_router.app.serving import drain, handed_listener, make_listener, open_control, open_files
from fd_router.app.sources import build_sources
from fd_router.app.state import build_limits, build_state
from fd_router.app.stats import log_stats
from fd_router.app.tracing import build_tracing
from fd_router.app.workers.seat import Seat
from fd_router.config.loading import Config, Loaded
from fd_router.errors import FdRouterError
from fd_router.http.dispatch import CONTROL, MAIN
from fd_router.http.handed_listener import HandedListener
from fd_router.http.listener import Listener, place, why_not_listening
from fd_router.http.request_ids import RequestIds
from fd_router.http.server_context import ServerContext, ServerState, build_server_context
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
        self._seat = seat
        self.runtime = runtime = build_runtime(config, log)
        live, telemetry = runtime.live, runtime.telemetry
        self.state = state = ServerState(
            live, open_files=open_files(), memory=usable_memory() // (seat.count if seat is not None else 1)
        )
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
            config,
            registry,
            pools,
            telemetry,
            runtime.rng,
            capacity.on_count,
            learning=link.learning if link is not None else None,
        )
        self._admission = admission = build_admission(runtime, state.budget, build_limits(runtime, link))
        capacity.headroom.on_capacity(admission.queues.on_capacity)
        self._sources = build_sources(runtime, registry, admission.networks)
        self._shared = build_state(runtime, link, seat, membership, self._sources, self._scheduling, admission.networks)
        self._routing = build_routing(runtime, membership, pools, self._scheduling, admission, state, make_id)
        self._reloader = Reloader(
            live,
            load or (lambda: Loaded(config)),
            (
                lambda new: self._client_tls.prepare(new.tls),
                lambda _: registry.access.prepare(),
                prepare_models,
                admission.prepare_tokens,
            ),
            admission.reload_keys,
            sources=self._sources.prepare_reload,
            log=log,
        )
        endpoints = endpoints_of(config.server)
        self._tracing = tracing = build_tracing(runtime)
        self.context: ServerContext = build_server_context(
            build_routes(
                runtime, membership, self._sources, admission, self._scheduling, self._routing, self._reloader, state,
                pools, hops.resolver, endpoints, self._shared, seat, capacity,
            ),
            tracing.trace(starts(endpoints, self._routing.starters)),
            live,
            state,
            sweeper=runtime.sweeper,
            batcher=runtime.batcher,
            clock=runtime.clock,
            make_id=make_id,
            log=log,
            finish=telemetry.finish,
            keep_authorization=admission.keep_authorization,
            gate=admission.gate,
            forwarding=hops.forwarding,
            cors=hops.cors,
            page_routes=ModelsApi.PATHS,
            error_bodies=error_bodies(endpoints),
        )  # fmt: skip
        self._listener: Listener | HandedListener | None = None
        self._control: Listener | HandedListener | None = (
            None  # for its own endpoints, where they have a port of their own
        )
        self._tasks: list[asyncio.Task[None]] = []

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
        config, log = runtime.live.current, runtime.log
        log_bugs(runtime.loop, log)
        log.start(runtime.loop)
        runtime.sweeper.start()
        self._listener = listener = await self._listen(config, log)
        shows_keys = self._membership.registry.access.has_keys
        warn_if_open(self._admission, listener, self._control, log, shows_keys=shows_keys)
        self._tasks = [runtime.loop.create_task(work) for work in self._work()]
        for task in self._tasks:
            task.add_done_callback(tell_if_broken)
        await asyncio.sleep(0)  # each has its first step: those that are named already are probed before clients come
        try:
            await self._open(listener)
        except OSError as error:
            raise FdRouterError(why_not_listening(config.server.host, config.server.port, error)) from None

    async def _listen(self, config: Config, log: RouterLog) -> Listener | HandedListener:
        """Bind the router's port, and open the control port where there is one. Raises FdRouterError."""
        context, tls, seat = self.context, self._client_tls.context, self._seat
        if not config.access.control_port:
            return self._listen_on_main(config, context, log)
        if seat is not None:
            self._control = handed_listener(config, context.for_admin_port(), tls, seat, CONTROL)
            await self._control.start()
        listener = self._listen_on_main(config, context.with_routes(open_to_all(context.routes)), log)
        if seat is None:
            self._control = await open_control(config, context.for_admin_port(), tls, log)
        return listener

    def _listen_on_main(self, config: Config, context: ServerContext, log: RouterLog) -> Listener | HandedListener:
        seat = self._seat
        if seat is None:
            return make_listener(config, context, self._client_tls.context, log)
        listener = handed_listener(config, context, self._client_tls.context, seat, MAIN)
        listener.count = lambda: len(self.state.connections)
        return listener

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

    async def _open(self, listener: Listener | HandedListener) -> None:
        """Let clients in, once it is known which of the instances that are named already can serve. Raises OSError."""
        if not listener.takes_over:
            listener.hold()
        server = self.runtime.live.current.server
        self.runtime.log.info(f"Starting server on {place(server.host, server.port)}")
        if self._shared is not None:
            await self._shared.join()
        with contextlib.suppress(TimeoutError):
            limit = TAKE_OVER_SECONDS if listener.takes_over else FIRST_PROBES_SECONDS
            await asyncio.wait_for(self._membership.monitor.probe_all(), limit)
        await listener.start()

    async def drain(self, hurry: asyncio.Event) -> None:
        """Take no more, and wait until what is under way is over, or until ``hurry``."""
        self._sources.finish()
        if self._listener is not None:
            await drain(self.state, self._listener, self.runtime.live, hurry, self.runtime.log)

    async def stop(self) -> None:
        """End everything that still runs."""
        if self._shared is not None:
            await self._shared.sync.say_goodbye()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in (self._listener, self._control):
            if listener is not None:
                listener.close()
        self.state.abort()
        self._pools.close()
        self._scheduling.close()
        await asyncio.to_thread(self._tracing.close)
        await asyncio.sleep(0)  # let the transports tell that they are closed
        self.runtime.sweeper.stop()
