"""The composition root: the one place that builds the router's objects, connects them, starts and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from fd_router.admission.networks import Networks
from fd_router.api.abort import AbortApi
from fd_router.api.access import open_to_all
from fd_router.api.health import HealthApi
from fd_router.api.instances import InstancesApi
from fd_router.api.metrics import metrics_routes
from fd_router.api.registration import RegistrationApi
from fd_router.api.reload import reload_routes
from fd_router.api.routes import merge_routes
from fd_router.app.admission import AdmissionParts, open_control
from fd_router.app.capacity import ProtectionParts
from fd_router.app.endpoints import Starters, any_instance_scheduler, endpoints_of, starts
from fd_router.app.reload import Load, Prepare, Reloader
from fd_router.app.scheduling import build_scheduling
from fd_router.app.serving import drain, make_listener
from fd_router.app.sources import Sources
from fd_router.config.live import LiveConfig
from fd_router.config.loading import Config, Loaded, LogConfig
from fd_router.engines.dialects import open_dialects
from fd_router.errors import LOOP_DETECTED, FdRouterError, UpstreamError
from fd_router.http.client_stream import StartRequest
from fd_router.http.connection_pool import Pools
from fd_router.http.cors import CORS_FIELDS, Cors
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.fetch import fetch
from fd_router.http.forwarding import Forwarding, make_pseudonym
from fd_router.http.listener import Listener, place, why_not_listening
from fd_router.http.request_ids import RequestIds
from fd_router.http.server_context import ServerContext, ServerState, build_server_context
from fd_router.http.tls import ClientSide, InstanceSide
from fd_router.http.write_batcher import WriteBatcher
from fd_router.instances.instance import Health, Instance
from fd_router.instances.prober import HealthMonitor
from fd_router.instances.registry import Registry
from fd_router.openai.endpoints import Endpoint
from fd_router.routing.in_flight import InFlight
from fd_router.routing.pair import PairContext, PairRequest
from fd_router.routing.single import SingleContext, SingleInstanceRequest
from fd_router.scheduling.explanation import Verdict
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.scheduler import Scheduler
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record_sinks import open_record_sinks
from fd_router.telemetry.stats import StatsLine
from fd_router.telemetry.telemetry import Telemetry

CONTROL_SECONDS = 5.0
"""How long an instance may take to answer a request of the router's own, an abort for one."""

FIRST_PROBES_SECONDS = 0.5
"""How long clients wait for the known instances' first probes: until then there is nobody to send them to."""

TAKE_OVER_SECONDS = 2.0
"""The same where another router serves the clients meanwhile."""

Explain = Callable[..., Sequence[Verdict]]
"""(request, draw) → a verdict for each role. Raises NoInstanceError."""


class Address(msgspec.Struct, frozen=True):
    """An address that isn't an instance's (yet)."""

    key: str
    host: str
    port: int


class Router:
    """One running router: built from a configuration on the loop that runs it."""

    def __init__(self, config: Config, log: RouterLog, load: Load | None = None) -> None:
        """``load`` reads the configuration anew, for a reload; None: it doesn't change."""
        self._live = LiveConfig(config)
        self._log = log
        self._live.subscribe(LogConfig, lambda options: log.set_level(options.level))
        self._loop = asyncio.get_running_loop()
        self._random = random.Random()
        metrics = Metrics()
        self._telemetry = Telemetry(log, metrics, open_record_sinks(config.telemetry, metrics, log))
        self._sweeper = DeadlineSweeper(self._loop)
        self._batcher = WriteBatcher(self._loop)
        ids = RequestIds()  # instances of a pair want theirs as UUIDs
        self._make_id = ids.next_uuid4 if config.server.splitwise else ids.next
        self._in_flight = InFlight()
        self._client_tls, self._instance_tls = ClientSide(config.tls), InstanceSide(config.tls)
        self._forwarding = Forwarding(
            Networks.parse(config.access.trusted_proxies, "access.trusted-proxies"), make_pseudonym()
        )
        self._cors = Cors(config.access.cors_origins) if config.access.cors_origins else None
        self._pools = Pools(
            self._live,
            self._sweeper,
            self._batcher,
            self._instance_tls,
            via=self._forwarding.via,
            dropped=CORS_FIELDS if self._cors is not None else frozenset(),
        )
        self._registry = self._make_registry()
        self._protection = ProtectionParts(self._live, self._registry, self._pools, self._telemetry, self._random)
        self._monitor = self._make_monitor()
        self._scheduling = build_scheduling(
            config, self._registry, self._pools, self._telemetry, self._random, self._protection.on_count
        )
        self._admission = AdmissionParts(self._live, self._telemetry, self._sweeper)
        self._sources = Sources(config, self._registry, self._admission.networks, log)
        self._protection.headroom.on_capacity(self._admission.queue.on_capacity)
        load = load or (lambda: Loaded(config))
        self._reloader = Reloader(
            self._live, load, self._to_prepare(), self._admission.reload, sources=self._sources.prepare_reload, log=log
        )
        self.state = ServerState(self._live, open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._context, self._admin = self._make_contexts()
        self._listener: Listener | None = None
        self._control: Listener | None = None  # for its own endpoints, where they have a port of their own
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def _config(self) -> Config:
        return self._live.current

    # building

    def _make_registry(self) -> Registry:
        metrics = self._telemetry.metrics
        registry = Registry(
            clock=time.monotonic, log=self._log, live=self._live, dialects=open_dialects(self._config.instances)
        )
        registry.on_removed(lambda instance: self._pools.retire(instance.key))
        registry.on_removed(lambda instance: metrics.forget_instance(instance.url))
        metrics.watch_instances(registry.all)
        return registry

    def _make_monitor(self) -> HealthMonitor:
        return HealthMonitor(self._registry, self._get_status, clock=time.monotonic, rng=self._random, live=self._live)

    def _make_contexts(self) -> tuple[ServerContext, ServerContext | None]:
        splitwise = self._config.server.splitwise
        endpoints = endpoints_of(self._config.server)
        starters, explain = self._start_pairs() if splitwise else self._start_singles()
        admission = self._admission
        registration = RegistrationApi(
            self._registry, self._sources.register_api, self._monitor.check,
            splitwise=splitwise, log=self._log, networks=admission.networks,
        )  # fmt: skip
        routes = merge_routes(
            registration.routes(),
            InstancesApi(self._registry, log=self._log).routes(),
            HealthApi(self._monitor.probe_all, lambda: self.state.is_draining, log=self._log).routes(),
            metrics_routes(self._telemetry.metrics.render),
            reload_routes(self._reloader.reload),
            AbortApi(self._registry.all, self._in_flight, self._post, log=self._log).routes(),
            self._scheduling.explain_api(explain, self._registry, endpoints).routes(),
        )
        context = build_server_context(
            admission.guard.protect(routes),
            starts(endpoints, starters),
            self._live,
            self.state,
            sweeper=self._sweeper,
            batcher=self._batcher,
            clock=time.monotonic,
            make_id=self._make_id,
            log=self._log,
            finish=self._telemetry.finish,
            keep_authorization=admission.keep_authorization,
            gate=admission.gate,
            forwarding=self._forwarding,
            cors=self._cors,
        )
        if not self._config.access.control_port:
            return context, None
        return context.with_routes(open_to_all(context.routes)), context.for_admin_port()

    def _start_singles(self) -> tuple[Starters, Explain]:
        """Centralized mode: how the forwarding of a request to one instance begins, and who explains its choice."""
        policy = self._scheduling.policies["mixed"]
        scheduler = Scheduler[Instance](self._registry.group("mixed"), policy, self._why_none)
        start = partial(self._start_single, scheduler)
        return {"generate": start, "any_instance": start}, scheduler.explain

    def _start_single(self, scheduler: Scheduler[Instance], endpoint: Endpoint) -> StartRequest:
        context = SingleContext(endpoint=endpoint, select=scheduler.select, **self._for_requests())
        return partial(SingleInstanceRequest, context)

    def _for_requests(self) -> dict[str, Any]:
        """What requests are given in both modes."""
        return {
            "live": self._live,
            "connection_failed": self._registry.connection_failed,
            "pools": self._pools,
            "telemetry": self._telemetry,
            "clock": time.monotonic,
            "in_flight": self._in_flight,
            "prepare": self._scheduling.prepare,
            "queue": self._admission.queue,
            "gate": self._admission.gate,
            "explain_header": self._config.proxy.explain_header,
        }

    def _start_pairs(self) -> tuple[Starters, Explain]:
        """Splitwise mode: how the forwarding of a request to a pair begins, and who explains its choice."""
        pairs = PairScheduler[Instance](
            Side(self._registry.group("prefill"), self._scheduling.policies["prefill"]),
            Side(self._registry.group("decode"), self._scheduling.policies["decode"]),
            Instance.can_pair_with,
            self._left_out,
        )

        def start(endpoint: Endpoint) -> StartRequest:
            context = PairContext(
                endpoint=endpoint, select_pair=pairs.select, make_id=self._make_id, **self._for_requests()
            )
            return partial(PairRequest, context)

        single = any_instance_scheduler(self._registry, time.monotonic, self._random, self._why_none)
        return {"generate": start, "any_instance": partial(self._start_single, single)}, pairs.explain

    # reloading

    def reload_soon(self) -> None:
        """Read all files anew; the log tells what came of it."""
        task = self._loop.create_task(self._reload())
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _reload(self) -> None:
        await self._reloader.reload()

    def _to_prepare(self) -> Sequence[Prepare]:
        return (
            lambda config: self._client_tls.prepare(config.tls),
            lambda config: self._instance_tls.prepare(config.tls),
            self._admission.prepare_tokens,
        )

    # small services

    def _why_none(self) -> str:
        known = self._registry.all()
        if not known:
            return "no instance is registered"
        return f"none of {len(known)} registered instances may be chosen ({_states(known)})"

    def _left_out(self) -> str:
        """Say which prefill and decode instances may not be chosen, and why, or nothing."""
        registry = self._registry
        chosen = {*registry.group("prefill").available, *registry.group("decode").available}
        return _states([x for x in registry.all() if x not in chosen])

    async def _get_status(self, host: str, port: int, path: str, timeout: float) -> int:  # noqa: ASYNC109
        """Probe: over a kept connection for healthy members, over one of its own for the others.

        Kept connections may live on while an instance refuses new ones.
        """
        key = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        known = self._registry.get(key)
        if known is not None and known.health is Health.HEALTHY:
            pool = self._pools.of(known)
        else:
            pool = self._pools.single_use(Address(key, host, port))
        status, _ = await fetch(pool, "GET", path, time_limit=timeout)
        if status == LOOP_DETECTED:
            raise UpstreamError("unreachable", "that is this router itself, or leads back to it", instance=pool.url)
        return status

    async def _post(self, instance: Instance, path: str, body: bytes) -> tuple[int, bytes]:
        return await fetch(self._pools.of(instance), "POST", path, body, time_limit=CONTROL_SECONDS)

    async def _log_stats(self) -> None:
        metrics = self._telemetry.metrics
        line = StatsLine(self._registry.all, metrics.cache_counts)
        while True:
            await self._live.sleep(lambda config: config.scheduler.stats_interval_secs)
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
        self._listener = listener = make_listener(self._config, self._context, self._client_tls.context, self._log)
        if self._admin is not None:
            self._control = await open_control(self._config, self._admin, self._client_tls.context, self._log)
        self._admission.warn_if_open(listener, self._control)
        work = [
            *self._sources.tasks(),
            self._monitor.run(),
            self._log_stats(),
            *self._scheduling.tasks(),
            *self._protection.tasks(self.state),
            *self._admission.tasks(),
        ]
        self._tasks = [self._loop.create_task(task) for task in work]
        await asyncio.sleep(0)  # each has its first step: those that are named already are probed before clients come
        try:
            await self._open(listener)
        except OSError as error:
            raise FdRouterError(why_not_listening(server.host, server.port, error)) from None

    async def _open(self, listener: Listener) -> None:
        """Let clients in, once it is known which of the instances that are named already can serve. Raises OSError."""
        if not listener.takes_over:
            listener.hold()
        server = self._config.server
        self._log.info(f"Starting server on {place(server.host, server.port)}")
        with contextlib.suppress(TimeoutError):
            limit = TAKE_OVER_SECONDS if listener.takes_over else FIRST_PROBES_SECONDS
            await asyncio.wait_for(self._monitor.probe_all(), limit)
        await listener.start()

    async def drain(self, hurry: asyncio.Event) -> None:
        """Take no more, and wait until what is under way is over, or until ``hurry``."""
        self._sources.finish()
        if self._listener is not None:
            await drain(self.state, self._listener, self._live, hurry, self._log)

    async def stop(self) -> None:
        """End everything that still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        if self._control is not None:
            self._control.close()
        self.state.abort()
        self._pools.close()
        self._scheduling.close()
        await asyncio.sleep(0)  # let the transports tell that they are closed
        self._sweeper.stop()


def _states(instances: Sequence[Instance]) -> str:
    """Tell of a few instances why they may not be chosen."""
    return ", ".join(f"{x.url} {_state(x)}" for x in instances[:5]) + (", …" if len(instances) > 5 else "")


def _state(instance: Instance) -> str:
    """Tell in a few words why an instance may not be chosen."""
    if instance.is_draining:
        return "drains"
    if instance.health is Health.HEALTHY and instance.registration.is_paused:
        return "is paused"
    return f"is {instance.health.value}" + (", its circuit is open" if instance.is_ejected else "")
