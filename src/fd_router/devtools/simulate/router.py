"""One router of a simulation: its picture of the fleet, its policy, and what it shares with others."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.instances.changes import Change
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import Registration
from fd_router.scheduling.candidate_group import UnlimitedGroup
from fd_router.scheduling.environment import Environment, Later
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.plugins.guard import PluginGuard
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.prefix.told_index import ToldPrefixIndex
from fd_router.scheduling.scheduler import Scheduler
from fd_router.state.topic import Topic
from fd_router.state.topics.learning import SharedLearning
from fd_router.state.topics.loads import SharedLoads
from fd_router.state.topics.prefixes import SharedPrefixes


class SimulatedRouter:
    """The policies, the scheduler, the counts, the prefix index and the topics are the router's own."""

    def __init__(
        self,
        name: str,
        instances: list[Instance],
        policy: str,
        options: SchedulerConfig,
        seed: int,
        *,
        clock: Callable[[], float],
        later: Later,
        is_shared: bool,
    ) -> None:
        self.name = name
        self.instances = instances
        self.figures = ReportedLoads(clock, options.load_max_age_secs)
        self.index = make_index(clock, options, ToldPrefixIndex if is_shared else PrefixIndex)
        self.topics: list[Topic] = []
        learning = SharedLearning() if is_shared else None
        environment = Environment(
            clock,
            random.Random(seed),
            later=later,
            index=self.index,
            reported_loads=self.figures,
            load_table=LoadTable(),
            learning=learning,
        )
        chooser = make_chooser(policy, environment, options, options.policy_options)
        self.group: UnlimitedGroup[Instance] = UnlimitedGroup(())
        self.scheduler = Scheduler(self.group, chooser, lambda: "")
        if learning is not None and isinstance(self.index, ToldPrefixIndex):
            prefixes = SharedPrefixes(self.index, "simulated", lambda _: True)
            self.topics = [SharedLoads(_Members(instances)), prefixes, learning]


def share(routers: Sequence[SimulatedRouter]) -> None:
    """Let each router tell the others what is new."""
    for router in routers:
        for place, topic in enumerate(router.topics):
            payload = topic.gather(whole=False)
            if payload is None:
                continue
            for other in routers:
                if other is not router:
                    other.topics[place].take(router.name, msgspec.Raw(payload))


class _Members:
    """The fleet as ``SharedLoads`` needs it: nobody comes or goes."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._instances = tuple(instances)
        self._by_key = {instance.key: instance for instance in instances}

    def get(self, key: str) -> Instance | None:
        """See ``Registry``."""
        return self._by_key.get(key)

    def all(self) -> tuple[Instance, ...]:
        """See ``Registry``."""
        return self._instances

    def removed_in_use(self) -> tuple[Instance, ...]:
        """See ``Registry``."""
        return ()

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """See ``Registry``."""


def make_chooser(
    policy: str, environment: Environment, options: SchedulerConfig, own_options: Mapping[str, Any]
) -> Policy:
    """Make a policy. Raises ConfigError.

    Where the router would go on with another one and log a line, the simulation ends: its figures would lie.
    """
    chooser = make_policy(policy, environment, options, own_options=own_options)
    if ":" not in policy:
        return chooser

    def fail(hook: str, kind: str, detail: str) -> None:
        place = "" if hook == "choose" else f" in {hook}"
        raise ConfigError(f"{policy} {kind.replace('_', ' ')}{place}: {detail}")

    return PluginGuard(chooser, RequestNumPolicy(environment), fail)


def make_instances(
    number: int, role: Literal["mixed", "prefill", "decode"] = "mixed", after: int = 0
) -> list[Instance]:
    """Make the members of a fleet, ordered by URL, as a registry gives them. ``after``: so many have an address."""
    places = range(after + 1, after + number + 1)
    hosts = [f"10.{place >> 16 & 255}.{place >> 8 & 255}.{place & 255}" for place in places]
    members = [Instance(Registration(role=role, host_ip=host, port=8000, metrics_port=8000)) for host in hosts]
    for member in members:
        member.health = Health.HEALTHY
    return sorted(members, key=lambda member: member.url)
