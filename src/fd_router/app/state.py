"""The part of the composition root that keeps this router in step with others: what is shared, and over which bus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from fd_router.admission.networks import Networks
from fd_router.admission.shared_limits import SharedLimits
from fd_router.app.admission import Admission
from fd_router.app.link import Link
from fd_router.app.membership import Membership
from fd_router.app.runtime import Run, Runtime
from fd_router.app.scheduling import Scheduling
from fd_router.app.sources import Sources
from fd_router.app.workers.seat import Seat
from fd_router.bus import BusHealth
from fd_router.config.sections import Config
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry
from fd_router.instances.sources.networks import why_outside
from fd_router.scheduling.prefix.told_index import ToldPrefixIndex
from fd_router.state.peers import Peers
from fd_router.state.sync import LEASE_SECONDS, Sync
from fd_router.state.topic import Topic
from fd_router.state.topics.lists import SharedLists
from fd_router.state.topics.loads import SharedLoads
from fd_router.state.topics.members import SharedMembers
from fd_router.state.topics.prefixes import SharedPrefixes
from fd_router.state.topics.sessions import SharedSessions
from fd_router.state.topics.verdicts import SharedDowns, SharedVerdicts
from fd_router.telemetry.metrics.state import StateMetrics

ABORT = "abort"
"""The call that has requests aborted which run at other routers."""

METRICS, RELOAD = "metrics", "reload"
"""The calls among the workers of a host that ask for a page, and have all files read anew."""

PAGE_SECONDS, RELOAD_SECONDS = 2.0, 30.0
"""How long other workers may take for that."""

CALL_SECONDS = 6.0
"""How long others may take for what they are asked to do: a second longer than their instances may take."""

WARM_SECONDS = 1.0
"""How long a router that starts waits to be told what the others know, before it says that it is ready."""


class Shared(msgspec.Struct, frozen=True):
    """What this router has in common with others."""

    sync: Sync
    members: SharedMembers
    host: Sync | None  # among the workers of this host; None: there are no others
    runs: Sequence[Run]

    async def join(self) -> None:
        """Wait until this router knows what the others do, or it is known that there are none."""
        await self.sync.joining.wait(WARM_SECONDS)

    async def abort_elsewhere(self, body: bytes) -> Iterable[bytes]:
        """Have the others abort what is theirs; return what each did."""
        return (await self.sync.calls.ask(ABORT, body, CALL_SECONDS)).values()

    async def ask_workers(self, kind: str, seconds: float, body: bytes = b"") -> Mapping[str, bytes]:
        """Ask the other workers of this host; return the answers by their numbers."""
        if self.host is None:
            return {}
        answers = await self.host.calls.ask(kind, body, seconds)
        return {name.rpartition("/")[2]: answer for name, answer in answers.items()}


def build_limits(runtime: Runtime, link: Link | None) -> SharedLimits | None:
    """Build who keeps the keys' limits together with others; None: this router is alone."""
    if link is None:
        return None
    return SharedLimits(
        link.bus,
        is_up=lambda: link.health.is_up,
        size=lambda: link.peers.size,
        clock=runtime.clock,
        counters=link.metrics,
    )


def build_state(
    runtime: Runtime,
    link: Link | None,
    seat: Seat | None,
    membership: Membership,
    sources: Sources,
    scheduling: Scheduling,
    admission: Admission,
    is_idle: Callable[[], bool],
) -> Shared | None:
    """Build what is shared over ``link``; None: this router is alone. ``is_idle``: whether no request is under way."""
    if link is None:
        return None
    config, peers = runtime.live.current, link.peers
    registry, monitor = membership.registry, membership.monitor
    flush = link.flush
    members = SharedMembers(
        registry,
        sources.register_api,
        sources.peers,
        admit=partial(_why_not, admission.networks),
        probe=monitor.probe_soon,
        flush=flush,
        clock=runtime.clock,
        log=runtime.log,
    )
    lists, verdicts = SharedLists(registry, peers), SharedVerdicts(registry, monitor.probe_soon, flush)
    link.learning.is_idle = is_idle
    link.facts.is_mine = lists.owns
    topics: list[Topic] = [
        members,
        lists,
        SharedLoads(registry, is_idle),
        verdicts,
        SharedDowns(registry, verdicts, members.refused),
        link.trials,
        link.learning,
        link.facts,
    ]
    if isinstance(scheduling.index, ToldPrefixIndex):
        topics.append(SharedPrefixes(scheduling.index, _scheme(config), partial(_is_member, registry)))
    is_host = seat is not None and link.bus is seat.bus
    sessions = SharedSessions(admission.sessions) if seat is not None else None
    if is_host and sessions is not None:
        topics.append(sessions)
    flush.sync = sync = Sync(
        link.bus,
        topics,
        peers,
        clock=runtime.clock,
        log=runtime.log,
        counters=link.metrics,
        health=link.health,
        interval=config.state.interval_ms / 1000,
    )
    monitor.share(lambda key: lists.owns(key) or verdicts.is_down_elsewhere(key))
    registry.on_removed(lambda instance: peers.drop_name(instance.key))
    host = sync if is_host else _host(runtime, seat, sessions)
    if host is not None and sessions is not None:
        sessions.flush = host.flush
    return Shared(sync, members, host, [sync.run] if host is None or host is sync else [sync.run, host.run])


def _host(runtime: Runtime, seat: Seat | None, sessions: SharedSessions | None) -> Sync | None:
    """Build what workers do together that have another bus for all else: answering for each other, and sessions."""
    if seat is None or sessions is None:
        return None
    peers = Peers(seat.process, runtime.clock, LEASE_SECONDS)
    counters, health = StateMetrics(), BusHealth()  # not shown: those of the set's bus are
    return Sync(seat.bus, [sessions], peers, clock=runtime.clock, log=runtime.log, counters=counters, health=health)


def _scheme(config: Config) -> str:
    """Name how prompts become hashes: those of routers that do it in another way mean nothing here."""
    options = config.scheduler
    tokens = "tokens" if options.tokenizer_path or options.tokenizer_url else "characters"
    return f"{tokens}/{options.cache_block_size}"


def _is_member(registry: Registry, url: str) -> bool:
    return registry.get(url.partition("://")[2]) is not None


def _why_not(networks: Networks | None, registration: Registration) -> str:
    """Say why another's registration may not be taken in, as ``/register`` would."""
    return why_outside(networks, registration.host_ip)
