"""A trace against a modelled fleet, in discrete-event time: hours of traffic in seconds.

The policies, the scheduler, the counts, the prefix index and the engines' figures are the router's own; the engines
are those of the mock instances. Left out is what takes microseconds: the router's own work, and the network.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.engine_model.engine import Engine
from fd_router.devtools.engine_model.runs import EngineSettings, Token
from fd_router.devtools.engine_model.step_engine import StepEngine
from fd_router.devtools.report.outcomes import Outcome, Result
from fd_router.devtools.simulate.router import SimulatedRouter, make_instances, share
from fd_router.devtools.simulate.trace_view import TraceView
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.instances.instance import Instance
from fd_router.scheduling.policies import find_policy
from fd_router.scheduling.policy import Need
from fd_router.scheduling.prefix.index import CHARACTERS_PER_TOKEN
from fd_router.scheduling.reservation import Reservation

_PROGRESS_EVERY = 50


class Fleet(msgspec.Struct, frozen=True):
    """The modelled instances: how many, each with which engine."""

    instances: int
    engine: EngineSettings
    speeds: tuple[float, ...] = ()  # how many times as fast the first, second … instance is, then from the start again
    joins: tuple[float, ...] = ()  # when the last instances join, in seconds; the others are there from the beginning

    def engine_of(self, place: int) -> EngineSettings:
        """The settings of the instance at ``place``: another hardware prefills and decodes faster or slower."""
        speed = self.speeds[place % len(self.speeds)] if self.speeds else 1.0
        return msgspec.structs.replace(
            self.engine,
            prefill_tokens_per_sec=self.engine.prefill_tokens_per_sec * speed,
            decode_secs=self.engine.decode_secs / speed,
            decode_secs_per_running=self.engine.decode_secs_per_running / speed,
        )

    @property
    def prefill_tokens_per_sec(self) -> float:
        """What all of them prefill."""
        return sum(self.engine_of(place).prefill_tokens_per_sec for place in range(self.instances))


class Routers(msgspec.Struct, frozen=True):
    """How many routers the requests go to, in turn, and how often they tell each other, in seconds; 0: never."""

    number: int = 1
    interval: float = 0.0


ONE_ROUTER = Routers()


class _Server:
    """One instance's engine."""

    __slots__ = ("due", "engine", "place")

    def __init__(self, place: int, engine: Engine | StepEngine) -> None:
        self.place = place  # among the servers
        self.engine = engine
        self.due = math.inf  # the engine's next event, as the agenda knows it


class _Sent:
    """A request on its way: what the engine gives back with its tokens."""

    __slots__ = ("decision", "request", "server")

    def __init__(self, request: TraceRequest, decision: Reservation[Instance], server: _Server) -> None:
        self.request = request
        self.decision = decision
        self.server = server


class _Timer:
    """What a policy wants to be called at a time."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call

    def cancel(self) -> None:
        """Do nothing when the time comes."""
        self.call = _nothing

    def __lt__(self, other: _Timer) -> bool:
        return self.at < other.at


def _nothing() -> None:
    pass


class Simulator:
    """One run of one policy. Equal arguments give equal outcomes."""

    def __init__(
        self, fleet: Fleet, policy: str, options: SchedulerConfig, seed: int = 0, routers: Routers = ONE_ROUTER
    ) -> None:
        self.now = 0.0
        self._options = options
        self._servers = [_Server(place, _engine(fleet.engine_of(place))) for place in range(fleet.instances)]
        self._routers = self._make_routers(fleet, policy, seed, routers)
        self._by_key = {instance.key: place for place, instance in enumerate(self._routers[0].instances)}
        self._agenda: list[tuple[float, int]] = []  # when which server's engine has something; stale ones are skipped
        self._outcomes: list[Outcome] = []
        self._timers: list[_Timer] = []  # a heap
        self._join(fleet.instances - len(fleet.joins))
        for number, at in enumerate(sorted(fleet.joins), 1):
            self._later(at, partial(self._join, fleet.instances - len(fleet.joins) + number))
        self._periodic: list[tuple[float, Callable[[], None]]] = [(options.eviction_interval_secs, self._sweep)]
        if Need.REPORTED_LOADS in self._needs(policy):
            self._periodic.append((options.load_scrape_interval_secs, self._scrape))
            if not options.cache_instance_max_blocks:
                self._limit_index(fleet.engine.cache_tokens)
        if routers.interval and routers.number > 1:
            self._periodic.append((routers.interval, self._share))

    def _needs(self, policy: str) -> frozenset[Need]:
        return find_policy(policy, self._options.policy_folder).needs

    def _make_routers(self, fleet: Fleet, policy: str, seed: int, routers: Routers) -> Sequence[SimulatedRouter]:
        return [
            SimulatedRouter(
                f"router {number}", make_instances(fleet.instances), policy, self._options, seed + number,
                clock=self._clock, later=self._later, is_shared=routers.interval > 0,
            )
            for number in range(routers.number)
        ]  # fmt: skip

    def run(
        self, requests: Sequence[TraceRequest], on_progress: Callable[[int], None] = lambda _: None
    ) -> list[Outcome]:
        """Let the requests, ordered by time, arrive, and all be served. ``on_progress`` hears how many have come."""
        ticks = self._ticks()
        tick, act = next(ticks)
        for number, request in enumerate(requests):
            while tick <= request.at:
                self._serve_until(tick)
                self.now = tick
                act()
                tick, act = next(ticks)
            self._serve_until(request.at)
            self.now = request.at
            self._arrive(request, self._routers[number % len(self._routers)])
            if number % _PROGRESS_EVERY == 0:
                on_progress(number)
        self._serve_until(math.inf)
        on_progress(len(requests))
        self._outcomes.sort(key=lambda outcome: outcome.at)
        return self._outcomes

    def _join(self, number: int) -> None:
        """So many instances are members now."""
        for router in self._routers:
            router.group.available = tuple(router.instances[:number])

    def _arrive(self, request: TraceRequest, router: SimulatedRouter) -> None:
        decision = router.scheduler.select(TraceView(request))
        send = partial(self._send, request, decision)
        if not decision.hold(send):
            send()

    def _send(self, request: TraceRequest, decision: Reservation[Instance]) -> None:
        server = self._servers[self._by_key[decision.instance.key]]
        server.engine.submit(request.prompt, request.output_tokens, self.now, _Sent(request, decision, server))
        self._note(server)

    def _clock(self) -> float:
        return self.now

    def _later(self, seconds: float, call: Callable[[], None]) -> _Timer:
        timer = _Timer(self.now + seconds, call)
        heapq.heappush(self._timers, timer)
        return timer

    def _serve_until(self, until: float) -> None:
        """Let all engines come to ``until``, each event in its turn."""
        agenda, timers = self._agenda, self._timers
        while True:
            due = agenda[0][0] if agenda else math.inf
            if timers and timers[0].at <= min(due, until):
                self.now, timer = timers[0].at, heapq.heappop(timers)
                timer.call()
                continue
            if not agenda or due > until:
                break
            at, place = heapq.heappop(agenda)
            server = self._servers[place]
            if at != server.due:
                continue
            self.now = at
            for token in server.engine.advance(at):
                self._on_token(token)
            server.due = math.inf
            self._note(server)

    def _on_token(self, token: Token) -> None:
        sent = token.run.owner
        assert isinstance(sent, _Sent)
        if token.number == 1:
            sent.decision.first_token()
            sent.decision.prefill_done()
        if token.is_last:
            sent.decision.usage(token.run.prompt.tokens, token.run.cached_tokens)
            sent.decision.release()
            self._finish(sent, token)

    def _finish(self, sent: _Sent, token: Token) -> None:
        run, request = token.run, sent.request
        self._outcomes.append(
            Outcome(
                at=request.at,
                input_tokens=request.input_tokens,
                instance=sent.decision.instance.key,
                ttft=run.first_token_at - request.at,
                seconds=run.finished_at - request.at,
                cached_tokens=run.cached_tokens,
                output_tokens=run.produced,
                session=request.session,
            )
        )

    def _note(self, server: _Server) -> None:
        """Put the engine's next event on the agenda."""
        due = server.engine.next_event_at()
        if due != server.due:
            server.due = due
            if due != math.inf:
                heapq.heappush(self._agenda, (due, server.place))

    # what the router does from time to time

    def _ticks(self) -> Iterator[tuple[float, Callable[[], None]]]:
        queue = [(every, place) for place, (every, _) in enumerate(self._periodic)]
        heapq.heapify(queue)
        while True:
            at, place = queue[0]
            every, act = self._periodic[place]
            yield at, act
            heapq.heapreplace(queue, (at + every, place))

    def _sweep(self) -> None:
        for router in self._routers:
            while router.index.sweep():
                pass

    def _scrape(self) -> None:
        for router in self._routers:
            for server, instance in zip(self._servers, router.instances, strict=True):
                engine = server.engine
                router.figures.report(instance.url, engine.running, engine.waiting, instance.running)

    def _share(self) -> None:
        share(self._routers)

    def _limit_index(self, cache_tokens: int) -> None:
        """Do what follows from an instance's ``available_gpu_block_num``, of blocks as large as the index's."""
        blocks = cache_tokens // self._options.cache_block_size
        for router in self._routers:
            for instance in router.instances:
                router.index.set_limit(instance.url, blocks * CHARACTERS_PER_TOKEN)


def simulate(
    requests: Sequence[TraceRequest],
    fleet: Fleet,
    policy: str,
    options: SchedulerConfig,
    *,
    seed: int = 0,
    name: str = "",
    routers: Routers = ONE_ROUTER,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Result:
    """Run ``policy`` on the trace.

    Raises ConfigError for an unknown policy, wrong options, and whatever goes wrong in a plug-in policy.
    """
    began = time.monotonic()
    outcomes = Simulator(fleet, policy, options, seed, routers).run(requests, on_progress)
    return Result(name or policy, outcomes, fleet.instances, time.monotonic() - began)


def _engine(settings: EngineSettings) -> Engine | StepEngine:
    return StepEngine(settings, every_token=False) if settings.is_stepwise else Engine(settings, every_token=False)
