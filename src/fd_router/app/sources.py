"""The part of the composition root that builds the sources of instances."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fd_router.admission.networks import Networks
from fd_router.config.loading import Config
from fd_router.instances.registration import require_served
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_API, REGISTER_YAML, STATE_FILE, discovery
from fd_router.instances.sources.loading import open_sources
from fd_router.instances.sources.members import Diff, FleetSources
from fd_router.instances.sources.register_yaml import RegisterYaml
from fd_router.instances.sources.runner import SourceRunner
from fd_router.instances.sources.state_file import StateFile
from fd_router.telemetry.logging.text_log import RouterLog


class Sources:
    """Every source of the fleet's instances. ``register_api`` is the one that instances themselves drive.

    Raises ConfigError for one of a third party that can't be loaded.
    """

    def __init__(self, config: Config, registry: Registry, networks: Networks | None, log: RouterLog) -> None:
        manager = config.manager
        accept = partial(require_served, dialects=registry.dialects, splitwise=config.server.splitwise)
        fleet = FleetSources(registry, accept, log=log)
        self.register_api = fleet.members_of(REGISTER_API)
        self._register_yaml = RegisterYaml(manager.register_path, accept, log=log)
        self._listed = fleet.members_of(REGISTER_YAML)
        self._state_file = (
            StateFile(Path(manager.state_path), registry, accept, log=log, networks=networks)
            if manager.state_path
            else None
        )
        run = partial(SourceRunner, clock=time.monotonic, log=log)
        self._runners = [run(self._register_yaml, self._listed)]
        if self._state_file is not None:
            self._runners.append(run(self._state_file, fleet.members_of(STATE_FILE)))
        for position, source in enumerate(open_sources(config.instances)):
            self._runners.append(run(source, fleet.members_of(discovery(source.name, position))))

    def tasks(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run as long as the router does; the first step names what is known already."""
        return [runner.run() for runner in self._runners]

    def prepare_reload(self, config: Config) -> Callable[[], Diff]:
        """Read ``register.yaml`` anew; what is returned puts it in force. Raises ConfigError."""
        return partial(self._register_yaml.prepare(config.manager.register_path), self._listed)

    def finish(self) -> None:
        """Write what outlives this router, for the last time."""
        if self._state_file is not None:
            self._state_file.finish()
