"""The part of the composition root that tells several models apart, as soon as the fleet or the options have any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial

from fd_router.app.runtime import Runtime
from fd_router.app.scheduling import Scheduling
from fd_router.config.models import ModelsConfig
from fd_router.config.sections import Config
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.group_key import ANY_MODEL
from fd_router.instances.registry import Registry
from fd_router.routing.model_route import ModelSwitch
from fd_router.routing.models.directory import GroupScheduler, ModelDirectory, Policies
from fd_router.routing.request_queues import RequestQueues
from fd_router.telemetry.metrics.models import Availability

_MEMBERSHIP = frozenset((ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.MODELS))

MakeScheduler = Callable[[str, Policies], GroupScheduler]
"""(the model of the groups, the policies by role) → who schedules the model's requests."""


def build_models(
    runtime: Runtime,
    registry: Registry,
    scheduling: Scheduling,
    queues: RequestQueues,
    switch: ModelSwitch,
    make_scheduler: MakeScheduler,
) -> tuple[ModelDirectory, GroupScheduler]:
    """Build the directory of models, and who schedules while there are no several. Raises ConfigError."""
    default = make_scheduler(ANY_MODEL, scheduling.policies)
    directory = ModelDirectory(
        registry,
        runtime.live.current.models.checked,
        (scheduling.policies, default),
        scheduling.make_policies,
        make_scheduler,
        runtime.rng,
    )
    runtime.live.subscribe(ModelsConfig, lambda options: directory.use(options.checked))
    switch.queue_of = queues.of
    directory.on_change(_Followers(runtime, registry, scheduling, queues, switch, directory).on_change)
    registry.on_change(partial(_on_membership, directory))
    return directory, default


def prepare_models(config: Config) -> Callable[[], None]:
    """Check the names of models; who follows the options puts them in force. Raises ConfigError."""
    _ = config.models.checked
    return _nothing


def _nothing() -> None:
    """Nothing is left to do."""


def _on_membership(directory: ModelDirectory, change: Change) -> None:
    if change.kind in _MEMBERSHIP:
        directory.refresh()


class _Followers:
    """Puts in force what follows from the names and groups of now: the switch, queues, policies, metrics, the log."""

    def __init__(
        self,
        runtime: Runtime,
        registry: Registry,
        scheduling: Scheduling,
        queues: RequestQueues,
        switch: ModelSwitch,
        directory: ModelDirectory,
    ) -> None:
        self._log = runtime.log
        self._metrics = runtime.telemetry.metrics.models
        self._metrics.watch = self._availability
        self._registry = registry
        self._scheduling = scheduling
        self._queues = queues
        self._switch = switch
        self._directory = directory
        self._were_several = False

    def on_change(self) -> None:
        """See ``ModelDirectory.on_change``."""
        directory, served = self._directory, self._directory.served
        self._switch.choice = directory if directory.is_needed else None
        self._queues.keep(served.names if served.are_several else ())
        self._metrics.keep(served.names)
        self._scheduling.keep_policies(directory.policies)
        if served.are_several is not self._were_several:
            self._were_several = served.are_several
            self._log.info(_in_words(directory))

    def _availability(self) -> Availability:
        if not self._directory.is_needed:
            return {}
        found: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for instance in self._registry.all():
            for card in instance.models:
                counts = found[card.name, instance.role]
                counts[0] += 1
                counts[1] += instance.takes_new
        return {pair: (known, ready) for pair, (known, ready) in found.items()}


def _in_words(directory: ModelDirectory) -> str:
    served = directory.served
    if not served.are_several:
        return "All instances serve the same models now: a request goes to any of them"
    names = sorted(served.names)
    listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    return f"Instances serve different models now ({listed}): a request goes to those of its model"
