"""The part of the composition root that says what the hops on both sides are told of each other, and of whom."""

from __future__ import annotations

import msgspec

from fd_router.admission.networks import Networks
from fd_router.app.runtime import Runtime
from fd_router.config.sections import Config
from fd_router.http.connection_pool import Pools
from fd_router.http.cors import CORS_FIELDS, Cors
from fd_router.http.forwarding import Forwarding, make_pseudonym


class Hops(msgspec.Struct, frozen=True):
    """``forwarding`` tells instances where a request came from; ``cors`` tells browsers; None: it says nothing."""

    forwarding: Forwarding
    cors: Cors | None


def build_hops(config: Config) -> Hops:
    """Build them. Raises ConfigError."""
    access = config.access
    trusted = Networks.parse(access.trusted_proxies, "access.trusted-proxies")
    return Hops(Forwarding(trusted, make_pseudonym()), Cors(access.cors_origins) if access.cors_origins else None)


def build_pools(runtime: Runtime, hops: Hops) -> Pools:
    """Build the pools of connections to all instances."""
    dropped = CORS_FIELDS if hops.cors is not None else frozenset()
    return Pools(runtime.live, runtime.sweeper, runtime.batcher, via=hops.forwarding.via, dropped=dropped)
