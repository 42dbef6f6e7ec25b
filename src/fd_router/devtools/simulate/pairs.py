"""A disaggregated fleet, simulated: prefill instances, the way of the KV cache, and decode instances."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.engine_model.runs import Run, Token
from fd_router.devtools.report.outcomes import Outcome
from fd_router.devtools.simulate.router import SimulatedRouter, make_chooser, make_instances
from fd_router.devtools.simulate.simulator import ONE_ROUTER, Fleet, Routers, Simulator
from fd_router.devtools.simulate.trace_view import TraceView
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.instances.instance import Instance
from fd_router.scheduling.candidate_group import UnlimitedGroup
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.policies import find_policy, make_index
from fd_router.scheduling.policy import Need
from fd_router.scheduling.reservation import Reservation


class PairFleet(msgspec.Struct, frozen=True):
    """So many prefill and decode instances, and how long a prompt's cache is on its way between two of them."""

    prefills: int
    decodes: int
    transfer_secs: float = 0.0  # of any prompt, …
    transfer_secs_per_token: float = 0.0  # … and more for each of its tokens

    def transfer(self, tokens: int) -> float:
        """Return the seconds for a prompt of ``tokens``."""
        return self.transfer_secs + self.transfer_secs_per_token * tokens


def split_policy(policy: str) -> tuple[str, str]:
    """Read ``PREFILL+DECODE``; a single name is of both roles."""
    prefill, _, decode = policy.partition("+")
    return prefill, decode or prefill


class SimulatedPairRouter(SimulatedRouter):
    """A router before such a fleet: a policy for each role, as the router has them."""

    def __init__(
        self, pairs: PairFleet, policy: str, options: SchedulerConfig, seed: int, clock: Callable[[], float]
    ) -> None:
        self.name = "router"
        self.topics = []
        prefills = make_instances(pairs.prefills, "prefill")
        decodes = make_instances(pairs.decodes, "decode", pairs.prefills)
        self.instances = [*prefills, *decodes]
        self.figures = ReportedLoads(clock, options.load_max_age_secs)
        self.index = make_index(clock, options)
        self.group = UnlimitedGroup(tuple(self.instances))
        rng = random.Random(seed)
        names = split_policy(policy)

        def side(role: str, name: str, members: list[Instance]) -> Side[Instance]:
            environment = Environment(
                clock, rng, role=role, index=self.index, reported_loads=self.figures, load_table=LoadTable()
            )
            own = options.policy_options if ":" in name else {}
            return Side(UnlimitedGroup(tuple(members)), make_chooser(name, environment, options, own))

        prefill, decode = side("prefill", names[0], prefills), side("decode", names[1], decodes)
        self.pairs: PairScheduler[Instance] = PairScheduler(prefill, decode, _fit)


class _Prefilling:
    """A request at its prefill instance: what that engine gives back with its token."""

    __slots__ = ("decode", "prefill", "request")

    def __init__(self, request: TraceRequest, prefill: Reservation[Instance], decode: Reservation[Instance]) -> None:
        self.request = request
        self.prefill = prefill
        self.decode = decode


class _Decoding:
    """The same request at its decode instance. ``prefilled``: what became of it before."""

    __slots__ = ("pair", "prefilled")

    def __init__(self, pair: _Prefilling, prefilled: Run) -> None:
        self.pair = pair
        self.prefilled = prefilled


class PairSimulator(Simulator):
    """One run of a prefill and a decode policy. A request's first token is decode's, as its client sees it."""

    def __init__(self, fleet: Fleet, pairs: PairFleet, policy: str, options: SchedulerConfig, seed: int = 0) -> None:
        self._pairs = pairs
        super().__init__(fleet, policy, options, seed, ONE_ROUTER)

    def _make_routers(self, fleet: Fleet, policy: str, seed: int, routers: Routers) -> Sequence[SimulatedRouter]:  # noqa: ARG002
        self._pair_router = SimulatedPairRouter(self._pairs, policy, self._options, seed, self._clock)
        return [self._pair_router]

    def _needs(self, policy: str) -> frozenset[Need]:
        prefill, decode = split_policy(policy)
        folder = self._options.policy_folder
        return find_policy(prefill, folder).needs | find_policy(decode, folder, role="decode").needs

    def _arrive(self, request: TraceRequest, router: SimulatedRouter) -> None:  # noqa: ARG002
        prefill, decode = self._pair_router.pairs.select(TraceView(request))
        assert prefill is not None, "no decode instance serves alone here"
        self._submit(prefill, request, 1, _Prefilling(request, prefill, decode))

    def _submit(
        self, at: Reservation[Instance], request: TraceRequest, tokens: int, owner: object, prefilled: int | None = None
    ) -> None:
        server = self._servers[self._by_key[at.instance.key]]
        server.engine.submit(request.prompt, tokens, self.now, owner, prefilled=prefilled)
        self._note(server)

    def _on_token(self, token: Token) -> None:
        owner = token.run.owner
        if isinstance(owner, _Prefilling):
            self._on_prefilled(owner, token.run)
            return
        assert isinstance(owner, _Decoding)
        pair = owner.pair
        if token.number == 1:
            pair.decode.first_token()
        if token.is_last:
            pair.decode.release()
            self._outcomes.append(_outcome(owner, token.run))

    def _on_prefilled(self, pair: _Prefilling, run: Run) -> None:
        pair.prefill.first_token()
        pair.prefill.prefill_done()
        pair.prefill.usage(run.prompt.tokens, run.cached_tokens)
        pair.prefill.release()
        output, owner = pair.request.output_tokens, _Decoding(pair, run)
        self._later(
            self._pairs.transfer(run.prompt.tokens),
            partial(self._submit, pair.decode, pair.request, output, owner, run.cached_tokens),
        )


def simulate_pairs(
    requests: Sequence[TraceRequest],
    fleet: Fleet,
    pairs: PairFleet,
    policy: str,
    options: SchedulerConfig,
    *,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Outcome]:
    """Run ``policy``, ``PREFILL+DECODE``, on the trace. Raises what ``simulate`` does."""
    return PairSimulator(fleet, pairs, policy, options, seed).run(requests, on_progress)


def _outcome(owner: _Decoding, run: Run) -> Outcome:
    request = owner.pair.request
    return Outcome(
        at=request.at,
        input_tokens=request.input_tokens,
        instance=owner.pair.prefill.instance.key,
        ttft=run.first_token_at - request.at,
        seconds=run.finished_at - request.at,
        cached_tokens=owner.prefilled.cached_tokens,
        output_tokens=run.produced,
        session=request.session,
    )


def _fit(_prefill: Instance, _decode: Instance) -> bool:
    return True
