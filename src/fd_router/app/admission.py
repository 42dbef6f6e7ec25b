"""The part of the composition root that builds what lets requests in: API keys and their watch, tokens, networks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from fd_router.admission.allowance import Allowance
from fd_router.admission.api_key_gate import ApiKeyGate
from fd_router.admission.api_key_store import ApiKeyStore
from fd_router.admission.key_file import KeyFile
from fd_router.admission.networks import Networks, read_networks
from fd_router.admission.priorities import Priorities
from fd_router.admission.sessions import Sessions
from fd_router.admission.shared_limits import SharedLimits
from fd_router.admission.tokens import read_tokens
from fd_router.api.access import Group, Guard, Rules
from fd_router.app.runtime import Run, Runtime
from fd_router.config.sections import Config
from fd_router.http.body_budget import BodyBudget
from fd_router.http.messages import Request
from fd_router.routing.precedence import PrecedenceReader
from fd_router.routing.request_queue import QueueObserver, RequestQueue
from fd_router.routing.request_queues import RequestQueues
from fd_router.telemetry.metrics.admission import AdmissionCounters, AdmissionMetrics


class Admission(msgspec.Struct, frozen=True):
    """Gate, queue and guard."""

    gate: ApiKeyGate | None  # where requests show their API keys; None: none is needed
    queues: RequestQueues
    precedence: PrecedenceReader  # for policies that let requests wait
    guard: Guard  # of the router's own endpoints
    rules: Rules  # that the guard began with
    sessions: Sessions  # of browsers that have shown the admin token
    keys: Callable[[], Iterable[Allowance]]  # that are in force
    networks: Networks | None  # of the instances; None: any
    keep_authorization: bool  # instances get the clients' Authorization headers
    reload_keys: Callable[[], Awaitable[Sequence[str]]]  # returns what is wrong with them: then nothing has changed
    runs: Sequence[Run]

    def forwarded_from(self, request: Request) -> bytes:
        """Return what of the Authorization of a call of the abort endpoint goes on: nothing that is for the router."""
        is_ours = not self.keep_authorization or self.guard.asks(Group.ADMIN)
        return b"" if is_ours else request.head.authorization

    def prepare_tokens(self, config: Config) -> Callable[[], None]:
        """Read the files of tokens anew; what is returned puts them in force. Raises ConfigError."""
        admin, register = read_tokens(config.access)
        return lambda: self.guard.use(admin, register)


def build_admission(runtime: Runtime, budget: BodyBudget, shared: SharedLimits | None) -> Admission:
    """Build them. Raises ConfigError when a file of keys or tokens can't be used: who could be let in then?"""
    config, log = runtime.live.current, runtime.log
    access, priorities = config.access, Priorities.parse(config.admission.priorities)
    networks = read_networks(access)
    admin, register = read_tokens(access)
    counters = AdmissionCounters()
    store = ApiKeyStore(Path(access.keys_path), priorities, runtime.clock) if access.keys_path else None
    key_file = None
    if store is not None:
        store.reload()
        key_file = KeyFile(store, access.keys_check_interval_secs, log)
    observer = QueueObserver(counters.waited, counters.refused, log.warn)
    queues = RequestQueues(
        partial(
            RequestQueue, runtime.live, priorities, runtime.sweeper, runtime.clock, runtime.loop.call_soon, observer
        )
    )
    budget.on_refused = partial(counters.refused, "body_budget")
    keys = store.all if store is not None else tuple
    runtime.telemetry.metrics.show(AdmissionMetrics(counters, queues.lengths, keys, budget))
    forward = access.forward_authorization
    sessions = Sessions(runtime.clock)
    rules = Rules(admin, register, networks, access.protect_metrics)
    return Admission(
        gate=ApiKeyGate(store, runtime.clock, counters.refused, shared) if store is not None else None,
        queues=queues,
        precedence=PrecedenceReader(runtime.live, priorities.weights, runtime.clock),
        guard=Guard(rules, log, sessions),
        rules=rules,
        sessions=sessions,
        keys=keys,
        networks=networks,
        keep_authorization=forward == "always" or (forward == "auto" and store is None),
        reload_keys=key_file.reload if key_file is not None else _no_keys,
        runs=[key_file.watch] if key_file is not None else [],
    )


async def _no_keys() -> Sequence[str]:
    """Nothing is wrong with keys that aren't needed."""
    return ()
