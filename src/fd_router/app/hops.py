"""The part of the composition root that says what the hops on both sides are told of each other, and of whom."""

from __future__ import annotations

import msgspec

from fd_router.admission.networks import read_networks, read_proxies
from fd_router.app.runtime import Runtime
from fd_router.http.connection_pool import Pools
from fd_router.http.cors import CORS_FIELDS, Cors
from fd_router.http.forwarding import Forwarding, make_pseudonym
from fd_router.http.resolver import Resolver


class Hops(msgspec.Struct, frozen=True):
    """``forwarding`` tells instances where a request came from; ``cors`` tells browsers; None: it says nothing.

    ``resolver`` finds the instances that have names.
    """

    forwarding: Forwarding
    cors: Cors | None
    resolver: Resolver


def build_hops(runtime: Runtime) -> Hops:
    """Build them. Raises ConfigError."""
    access = runtime.live.current.access
    trusted = read_proxies(access)
    networks = read_networks(access)
    resolver = Resolver(runtime.clock, networks.__contains__ if networks is not None else None)
    cors = Cors(access.cors_origins) if access.cors_origins else None
    return Hops(Forwarding(trusted, make_pseudonym()), cors, resolver)


def build_pools(runtime: Runtime, hops: Hops) -> Pools:
    """Build the pools of connections to all instances."""
    dropped = CORS_FIELDS if hops.cors is not None else frozenset()
    via, resolver = hops.forwarding.via, hops.resolver
    return Pools(runtime.live, runtime.sweeper, runtime.batcher, via=via, dropped=dropped, resolver=resolver)
