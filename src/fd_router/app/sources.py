"""The part of the composition root that builds the sources of instances."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from fd_router.admission.networks import Networks
from fd_router.config.loading import Config
from fd_router.instances.registration import require_served
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_API, REGISTER_YAML, STATE_FILE, discovery
from fd_router.instances.sources.loading import open_sources
from fd_router.instances.sources.members import Diff, FleetSources, SourceMembers
from fd_router.instances.sources.register_yaml import RegisterYaml
from fd_router.instances.sources.runner import SourceRunner
from fd_router.instances.sources.state_file import StateFile
from fd_router.telemetry.logging.text_log import RouterLog


class Sources(msgspec.Struct, frozen=True):
    """Every source of the fleet's instances."""

    register_api: SourceMembers  # of the instances that register themselves
    listed: SourceMembers  # of register.yaml
    register_yaml: RegisterYaml
    state_file: StateFile | None
    runners: tuple[SourceRunner, ...]

    def tasks(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run as long as the router does; the first step names what is known already."""
        return [runner.run() for runner in self.runners]

    def prepare_reload(self, config: Config) -> Callable[[], Diff]:
        """Read ``register.yaml`` anew; what is returned puts it in force. Raises ConfigError."""
        return partial(self.register_yaml.prepare(config.manager.register_path), self.listed)

    def finish(self) -> None:
        """Write what outlives this router, for the last time."""
        if self.state_file is not None:
            self.state_file.finish()


def build_sources(config: Config, registry: Registry, networks: Networks | None, log: RouterLog) -> Sources:
    """Build the router's own sources and those of a third party. Raises ConfigError for one that can't be loaded."""
    manager = config.manager
    accept = partial(require_served, dialects=registry.dialects, splitwise=config.server.splitwise)
    fleet = FleetSources(registry, accept, log=log)
    run = partial(SourceRunner, clock=time.monotonic, log=log)
    listed, register_yaml = fleet.members_of(REGISTER_YAML), RegisterYaml(manager.register_path, accept, log=log)
    runners = [run(register_yaml, listed)]
    state_file = None
    if manager.state_path:
        state_file = StateFile(Path(manager.state_path), registry, accept, log=log, networks=networks)
        runners.append(run(state_file, fleet.members_of(STATE_FILE)))
    for position, source in enumerate(open_sources(config.instances)):
        runners.append(run(source, fleet.members_of(discovery(source.name, position))))
    return Sources(fleet.members_of(REGISTER_API), listed, register_yaml, state_file, tuple(runners))
