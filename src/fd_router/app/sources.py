"""The part of the composition root that builds the sources of instances."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from fd_router.admission.networks import Networks
from fd_router.app.discovery import HEED_NETWORKS, open_discoveries
from fd_router.app.reload import PrepareSources
from fd_router.app.runtime import Run, Runtime
from fd_router.instances.registration import require_served
from fd_router.instances.registry import Registry
from fd_router.instances.source import NAMED, PEERS, REGISTER_API, REGISTER_YAML, STATE_FILE, discovery
from fd_router.instances.sources.loading import open_sources
from fd_router.instances.sources.members import FleetSources, SourceMembers
from fd_router.instances.sources.named import NamedInstances, read_named
from fd_router.instances.sources.register_yaml import RegisterYaml
from fd_router.instances.sources.runner import SourceRunner
from fd_router.instances.sources.state_file import StateFile
from fd_router.instances.sources.watched_file import WatchedFile
from fd_router.telemetry.metrics.sources import SourceCollector


class Sources(msgspec.Struct, frozen=True):
    """Every source of the fleet's instances."""

    register_api: SourceMembers  # of the source that instances themselves drive
    peers: SourceMembers  # of what other routers know
    prepare_reload: PrepareSources  # reads register.yaml anew
    runs: Sequence[Run]
    named: Callable[[], Awaitable[None]]  # waits until what files name at the start is known
    finish: Callable[[], Awaitable[None]]  # writes what outlives this router, for the last time


def build_sources(runtime: Runtime, registry: Registry, networks: Networks | None) -> Sources:
    """Build the sources that the configuration names. ``networks``: those that instances must be in; None: any.

    Raises ConfigError for a source of a third party that can't be loaded, and named instances that can't be members.
    """
    config, log = runtime.live.current, runtime.log
    accept = partial(require_served, dialects=registry.dialects, splitwise=config.server.splitwise)
    fleet = FleetSources(registry, accept, log=log, networks=networks)
    run = partial(SourceRunner, clock=runtime.clock, log=log)
    named = NamedInstances(read_named(config.manager.instance, accept))
    listed = fleet.members_of(REGISTER_YAML)
    register_yaml = RegisterYaml(config.manager.register_path, accept, log=log)
    runs: list[Run] = [run(named, fleet.members_of(NAMED)).run, run(register_yaml, listed).run]
    finish: Callable[[], Awaitable[None]] = _nothing
    own = open_discoveries(config, accept)
    files = [register_yaml.has_named, *(source.has_named for source in own if isinstance(source, WatchedFile))]
    lists_are_known = partial(_wait_for, tuple(files))
    if path := config.manager.state_path:
        state_file = StateFile(
            Path(path), registry, accept, log=log, networks=networks, lists_are_known=lists_are_known
        )
        runs.append(run(state_file, fleet.members_of(STATE_FILE)).run)
        finish = state_file.finish
        files.append(state_file.has_named)
    for position, source in enumerate((*own, *open_sources(config.instances))):
        rank = discovery(source.name, position, heeds_networks=isinstance(source, HEED_NETWORKS))
        runs.append(run(source, fleet.members_of(rank)).run)
    runtime.telemetry.metrics.show(SourceCollector(fleet.states))
    return Sources(
        register_api=fleet.members_of(REGISTER_API),
        peers=fleet.members_of(PEERS),
        prepare_reload=lambda new: partial(register_yaml.prepare(new.manager.register_path), listed),
        runs=runs,
        named=partial(_wait_for, files),
        finish=finish,
    )


async def _wait_for(events: Sequence[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


async def _nothing() -> None:
    """Nothing outlives it."""
