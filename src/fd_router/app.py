"""The composition root: the one place that builds the router's objects, connects them, starts and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import resource
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from fd_router.api.abort import AbortApi
from fd_router.api.health import HealthApi
from fd_router.api.metrics import metrics_routes
from fd_router.api.registration import RegistrationApi
from fd_router.api.routes import merge_routes
from fd_router.app_scheduling import SchedulingParts
from fd_router.config import Config
from fd_router.engines.fastdeploy import can_pair
from fd_router.errors import FdRouterError
from fd_router.instances.health import Thresholds
from fd_router.instances.instance import Health, Instance
from fd_router.instances.prober import HealthMonitor
from fd_router.instances.register_file import keep_instances
from fd_router.instances.registry import Registry
from fd_router.proxy.deadlines import DeadlineSweeper
from fd_router.proxy.exchange import Exchange, ExchangeServices
from fd_router.proxy.fetch import fetch
from fd_router.proxy.ids import RequestIds
from fd_router.proxy.in_flight import InFlight
from fd_router.proxy.outbox import Outbox
from fd_router.proxy.pair_exchange import PairExchange, PairServices
from fd_router.proxy.pool import Pools
from fd_router.proxy.server import ServerConnection, Site, StartExchange
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.scheduler import Scheduler
from fd_router.telemetry.log import RouterLog
from fd_router.telemetry.metrics import Metrics
from fd_router.telemetry.opening import open_log
from fd_router.telemetry.stats import StatsLine
from fd_router.telemetry.telemetry import Telemetry

DRAIN_SECONDS = 30.0
"""How long running requests may go on after the first signal to stop."""

CONTROL_SECONDS = 5.0
"""How long an instance may take to answer a request of the router's own, an abort for one."""

BACKLOG = 4096
"""Connections that may wait to be accepted: a burst of clients shouldn't be refused."""

INFERENCE_PATHS = ("/v1/chat/completions", "/v1/completions")


class Endpoint(msgspec.Struct, frozen=True):
    """An address that isn't an instance's (yet)."""

    key: str
    host: str
    port: int


class Router:
    """One running router: built from a configuration on the loop that runs it."""

    def __init__(self, config: Config, log: RouterLog) -> None:
        self._config = config
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._random = random.Random()
        self._telemetry = Telemetry(log, Metrics())
        self._sweeper = DeadlineSweeper(self._loop)
        self._outbox = Outbox(self._loop)
        self._ids = RequestIds()
        self._in_flight = InFlight()
        self._pools = Pools(config.proxy, self._sweeper, self._outbox)
        self._registry = self._make_registry()
        self._monitor = self._make_monitor()
        self._scheduling = SchedulingParts(config, self._registry, self._pools, self._telemetry, self._random)
        self._site = self._make_site()
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # building

    def _make_registry(self) -> Registry:
        manager, metrics = self._config.manager, self._telemetry.metrics
        registry = Registry(
            clock=time.monotonic,
            log=self._log,
            thresholds=Thresholds(
                failures=manager.health_failure_threshold, successes=manager.health_success_threshold
            ),
            expiry_secs=manager.instance_expiry_secs,
        )
        registry.on_removed(lambda instance: self._pools.retire(instance.key))
        registry.on_removed(lambda instance: metrics.forget_instance(instance.url))
        metrics.watch_instances(registry.all)
        return registry

    def _make_monitor(self) -> HealthMonitor:
        manager = self._config.manager
        return HealthMonitor(
            self._registry,
            self._get_status,
            clock=time.monotonic,
            rng=self._random,
            interval=manager.health_check_interval_secs,
            timeout=manager.health_check_timeout_secs,
            endpoint=manager.health_check_endpoint,
        )

    def _make_site(self) -> Site:
        splitwise = self._config.server.splitwise
        start = self._start_pairs() if splitwise else self._start_singles()
        registration = RegistrationApi(self._registry, self._monitor.check, splitwise=splitwise, log=self._log)
        routes = merge_routes(
            registration.routes(),
            HealthApi(self._monitor.probe_all, log=self._log).routes(),
            metrics_routes(self._telemetry.metrics.render),
            AbortApi(self._registry.all, self._in_flight, self._post, log=self._log).routes(),
        )
        return Site(
            routes,
            dict.fromkeys(INFERENCE_PATHS, start),
            self._config.proxy,
            self._sweeper,
            self._outbox,
            self._telemetry,
            time.monotonic,
            self._ids.next,
        )

    def _start_singles(self) -> StartExchange:
        """Centralized mode: how the forwarding of a request to one instance begins."""
        policy = self._scheduling.make_policy(self._config.scheduler.policy)
        scheduler = Scheduler[Instance](partial(self._registry.available, "mixed"), policy, self._why_none)
        services = ExchangeServices(
            select=scheduler.select,
            connection_failed=self._registry.connection_failed,
            pools=self._pools,
            telemetry=self._telemetry,
            clock=time.monotonic,
            max_attempts=self._config.proxy.max_attempts,
            in_flight=self._in_flight,
        )
        services.prepare = self._scheduling.prepare
        return lambda request, client, record: Exchange(request, client, record, services)

    def _start_pairs(self) -> StartExchange:
        """Splitwise mode: how the forwarding of a request to a pair begins."""
        proxy, scheduler = self._config.proxy, self._config.scheduler
        pairs = PairScheduler[Instance](
            Side(partial(self._registry.available, "prefill"), self._scheduling.make_policy(scheduler.prefill_policy)),
            Side(partial(self._registry.available, "decode"), self._scheduling.make_policy(scheduler.decode_policy)),
            lambda prefill, decode: can_pair(prefill.registration, decode.registration),
        )
        services = PairServices(
            select_pair=pairs.select,
            connection_failed=self._registry.connection_failed,
            pools=self._pools,
            telemetry=self._telemetry,
            clock=time.monotonic,
            max_attempts=proxy.max_attempts,
            make_id=self._ids.next,
            in_flight=self._in_flight,
            prefill_timeout=proxy.prefill_timeout_secs,
            expose_instances=proxy.expose_instances,
        )
        services.prepare = self._scheduling.prepare
        return lambda request, client, record: PairExchange(request, client, record, services)

    # small services

    def _why_none(self) -> str:
        known = self._registry.all()
        if not known:
            return "no instance has registered yet"
        states = ", ".join(f"{x.url} is {x.health.value}" for x in known[:5])
        return f"none of {len(known)} registered instances may be chosen ({states}{', …' if len(known) > 5 else ''})"

    async def _get_status(self, host: str, port: int, path: str, timeout: float) -> int:  # noqa: ASYNC109
        """Probe: over a kept connection for healthy members, over one of its own for the others.

        Kept connections may live on while an instance refuses new ones.
        """
        key = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        known = self._registry.get(key)
        if known is not None and known.health is Health.HEALTHY:
            pool = self._pools.of(known)
        else:
            pool = self._pools.single_use(Endpoint(key, host, port))
        status, _ = await fetch(pool, "GET", path, time_limit=timeout)
        return status

    async def _post(self, instance: Instance, path: str, body: bytes) -> tuple[int, bytes]:
        return await fetch(self._pools.of(instance), "POST", path, body, time_limit=CONTROL_SECONDS)

    async def _log_stats(self) -> None:
        metrics = self._telemetry.metrics
        line = StatsLine(self._registry.all, metrics.cache_counts)
        while True:
            await asyncio.sleep(self._config.scheduler.stats_interval_secs)
            self._log.info(line.next())

    def _on_bug(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback raised: say so in the log. The connection concerned is closed by the loop."""
        error = context.get("exception")
        what = f"{type(error).__name__}: {error}" if error is not None else context.get("message", "unknown")
        place = ""
        if error is not None and (trace := error.__traceback__) is not None:
            while trace.tb_next is not None:
                trace = trace.tb_next
            place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        self._log.error(f"A bug in the router: {what}{place}")

    # life

    async def start(self) -> None:
        """Listen, probe, register what register.yaml names. Raises FdRouterError when the address can't be had."""
        self._loop.set_exception_handler(self._on_bug)
        self._log.start(self._loop)
        self._sweeper.start()
        server = self._config.server
        self._log.info(f"Starting server on {server.host}:{server.port}")
        try:
            self._server = await self._loop.create_server(
                lambda: ServerConnection(self._site), server.host or None, server.port, backlog=BACKLOG
            )
        except OSError as error:
            raise FdRouterError(_why_not_listening(server.host, server.port, error)) from None
        if path := self._config.manager.register_path:
            keep_instances(Path(path), self._registry, splitwise=server.splitwise, log=self._log)
        work = (self._monitor.run(), self._log_stats(), *self._scheduling.tasks())
        self._tasks = [self._loop.create_task(task) for task in work]

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Accept no more, and wait until running requests are over, for ``seconds`` at most or until ``hurry``."""
        if self._server is not None:
            self._server.close()
        self._site.drain()
        until = self._loop.time() + seconds
        while self._site.busy and self._loop.time() < until and not hurry.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), 0.05)

    async def stop(self) -> None:
        """End everything that still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for connection in list(self._site.connections):
            connection.abort()
        self._pools.close()
        await asyncio.sleep(0)  # let the transports tell that they are closed
        self._sweeper.stop()


def _why_not_listening(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; stop it, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} may not be used by this user; choose one above 1023"
    return f"can't listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}"


def _calm_collector() -> None:
    """Let the cyclic garbage collector run seldom: hundreds of requests under way look like a leak to it.

    What a request leaves behind holds no cycles and is freed by reference counts. With Python's default of 700
    objects the collector took a tenth of the router's time.
    """
    gc.collect()
    gc.freeze()  # what was built so far stays for good
    gc.set_threshold(50_000, 20, 20)


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as the system lets us.

    A stream takes two, one at each side; shells and systemd mostly begin with 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: Config, log: RouterLog) -> None:
    loop = asyncio.get_running_loop()
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            hurry.set()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    router = Router(config, log)
    try:
        await router.start()
        _calm_collector()
        await stopping.wait()
        log.info("Stopping: no new connections; running requests go on")
        await router.drain(DRAIN_SECONDS, hurry)
    finally:
        await router.stop()
        log.info("Stopped")


def run(config: Config, warnings: Sequence[str] = ()) -> int:
    """Run a router until a signal ends it. Returns the exit status. Raises FdRouterError when it can't start."""
    _allow_many_connections()
    options = {name: getattr(config.log, name) for name in config.log.__struct_fields__}
    log = open_log(**options)
    for warning in warnings:
        log.warn(warning)
    try:
        uvloop.run(_serve(config, log))
    finally:
        log.close()
    return 0
