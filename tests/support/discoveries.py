"""A fleet for discoveries, and a discovery that is followed while a test looks on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

from fd_router.admission.networks import Networks
from fd_router.engines.dialects import Dialects
from fd_router.instances.registration import require_served
from fd_router.instances.registry import Registry
from fd_router.instances.source import discovery
from fd_router.instances.sources.members import FleetSources, SourceMembers
from fd_router.telemetry.contracts import Log

accept = partial(require_served, dialects=Dialects(), splitwise=False)


class Discovery(Protocol):
    """A source of instances with a name."""

    name: str

    async def run(self, members: SourceMembers) -> None:
        """Name what there is."""


def members_of(discovered: Discovery, registry: Registry, log: Log, *, networks: str = "") -> SourceMembers:
    """Return what ``discovered`` is to work with; ``networks``: where instances must be, "": anywhere."""
    allowed = Networks.parse(networks, "x") if networks else None
    fleet = FleetSources(registry, accept, log=log, networks=allowed)
    return fleet.members_of(discovery(discovered.name, 0, heeds_networks=True))


@contextlib.asynccontextmanager
async def followed(discovered: Discovery, members: SourceMembers) -> AsyncIterator[SourceMembers]:
    """Run ``discovered`` meanwhile."""
    task = asyncio.create_task(discovered.run(members))
    try:
        yield members
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
