"""Which policy each role has, and what is wrong with those from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fd_router.config.loading import Config, SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies import make_policy


class NamedPolicy(msgspec.Struct, frozen=True):
    """The policy of a role, as the configuration names it."""

    key: str  # the option that names it: "scheduler.policy"
    name: str
    options: Mapping[str, Any]  # its own, where it is from elsewhere

    @property
    def is_custom(self) -> bool:
        """Whether it is from elsewhere."""
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


def problems_of(
    policies: Mapping[str, NamedPolicy], options: SchedulerConfig, environment: Environment
) -> tuple[str, ...]:
    """Say what is wrong with policies from elsewhere: those are imported, and built for a trial."""
    problems: list[str] = []
    for named in policies.values():
        if named.options and not named.is_custom:
            problems.append(f"{named.key}-options: {named.name} takes none; they are for a policy of your own")
        if named.is_custom:
            try:
                make_policy(named.name, environment, options, own_options=named.options, key=named.key)
            except ConfigError as error:
                problems += error.problems
    return tuple(problems)
