"""The part of the composition root that builds the way to other routers, before the parts that ask them."""

from __future__ import annotations

import msgspec

from fd_router.app.process_name import process_name
from fd_router.app.runtime import Runtime
from fd_router.app.workers.seat import Seat
from fd_router.bus import Bus, BusHealth
from fd_router.state.peers import Peers
from fd_router.state.redis.bus import RedisBus
from fd_router.state.sync import LEASE_SECONDS, Sync
from fd_router.state.topics.facts import SharedFacts
from fd_router.state.topics.learning import SharedLearning
from fd_router.state.topics.trials import SharedTrialResults
from fd_router.telemetry.metrics.state import StateMetrics


class Flush:
    """Has what is new go out at once; made before who sends it."""

    sync: Sync | None = None

    def __call__(self) -> None:
        """Send a frame in this turn of the loop."""
        if self.sync is not None:
            self.sync.flush()


class Link(msgspec.Struct, frozen=True):
    """The bus, and who else is there: what parts that ask others need."""

    bus: Bus
    health: BusHealth
    peers: Peers
    metrics: StateMetrics
    flush: Flush
    trials: SharedTrialResults
    learning: SharedLearning
    facts: SharedFacts


def build_link(runtime: Runtime, seat: Seat | None) -> Link | None:
    """Build the bus; None: this process is alone. Raises ConfigError for one that can't be had whatever happens."""
    config = runtime.live.current
    bus: Bus
    if config.state.url:
        own = process_name()
        bus = RedisBus(config.state, own)
    elif seat is not None:
        own, bus = seat.process, seat.bus
    else:
        return None
    flush, peers = Flush(), Peers(own, runtime.clock, LEASE_SECONDS)
    trials = SharedTrialResults(flush)
    link = Link(bus, BusHealth(), peers, StateMetrics(), flush, trials, SharedLearning(), SharedFacts())
    link.metrics.is_up, link.metrics.peers = (lambda: link.health.is_up), (lambda: len(link.peers))
    runtime.telemetry.metrics.show_all(link.metrics.register)
    return link
