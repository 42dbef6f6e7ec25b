"""The policy of each role: which it is, what it needs, and what is wrong with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fd_router.config.loading import Config, SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies import find_policy, make_policy
from fd_router.scheduling.policy import Need


class NamedPolicy(msgspec.Struct, frozen=True):
    """The policy of a role, as the configuration names it."""

    key: str  # the option that names it: "scheduler.policy"
    name: str
    options: Mapping[str, Any]  # given to it alone

    @property
    def is_plugin(self) -> bool:
        """Whether it is no part of the router."""
        return ":" in self.name


def policies_of(config: Config) -> Mapping[str, NamedPolicy]:
    """Return the policies that a router with ``config`` needs, by role."""
    options = config.scheduler
    if not config.server.splitwise:
        return {"mixed": NamedPolicy("scheduler.policy", options.policy, options.policy_options)}
    return {
        "prefill": NamedPolicy("scheduler.prefill-policy", options.prefill_policy, options.prefill_policy_options),
        "decode": NamedPolicy("scheduler.decode-policy", options.decode_policy, options.decode_policy_options),
    }


def shadow_of(config: Config) -> Mapping[str, NamedPolicy]:
    """Return the policy that decides beside the one of a role, by that role; nothing where there is none."""
    options = config.scheduler
    if not options.shadow_policy:
        return {}
    role = "prefill" if config.server.splitwise else "mixed"
    return {role: NamedPolicy("scheduler.shadow-policy", options.shadow_policy, options.shadow_policy_options)}


def needs_of(policies: Mapping[str, NamedPolicy], folder: str = "") -> frozenset[Need]:
    """Return what the policies of all roles need together. Raises ConfigError for one that can't be found."""
    return frozenset().union(*_needs_of_each(policies, folder))


def read_engine_prompt(policies: Mapping[str, NamedPolicy], folder: str = "") -> bool:
    """Tell whether the policies that go by prefixes all want the engine's prompt, so that tokens may be of that."""
    needs = [each for each in _needs_of_each(policies, folder) if Need.PREFIX_INDEX in each]
    return bool(needs) and all(Need.ENGINE_PROMPT in each for each in needs)


def _needs_of_each(policies: Mapping[str, NamedPolicy], folder: str) -> list[frozenset[Need]]:
    return [find_policy(named.name, folder, role=role, key=named.key).needs for role, named in policies.items()]


def problems_of(
    policies: Mapping[str, NamedPolicy], options: SchedulerConfig, clock: Callable[[], float], rng: random.Random
) -> tuple[str, ...]:
    """Say what is wrong with plug-ins, and with options of their own: those policies are built for a trial."""
    problems: list[str] = []
    for role, named in policies.items():
        if named.is_plugin or named.options:
            try:
                environment = Environment(clock, rng, role=role)
                make_policy(named.name, environment, options, own_options=named.options, key=named.key)
            except ConfigError as error:
                problems += error.problems
    return tuple(problems)
