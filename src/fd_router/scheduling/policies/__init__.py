"""The scheduling strategies, one idea a file, and the table of their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from fd_router.errors import ConfigError
from fd_router.scheduling.contract import Environment, Policy
from fd_router.scheduling.policies.least import ProcessTokensPolicy, RequestNumPolicy
from fd_router.scheduling.policies.power_of_two import PowerOfTwoPolicy
from fd_router.scheduling.policies.random import RandomPolicy
from fd_router.scheduling.policies.round_robin import RoundRobinPolicy

POLICIES: Mapping[str, Callable[[Environment], Policy]] = MappingProxyType(
    {
        "power_of_two": PowerOfTwoPolicy,
        "process_tokens": ProcessTokensPolicy,
        "random": RandomPolicy,
        "request_num": RequestNumPolicy,
        "round_robin": RoundRobinPolicy,
    }
)


def make_policy(name: str, environment: Environment) -> Policy:
    """Build the policy called ``name``. Raises ConfigError with the list of names for an unknown one."""
    factory = POLICIES.get(name)
    if factory is None:
        raise ConfigError(f"scheduler policy {name!r} is not available; choose one of: {', '.join(sorted(POLICIES))}")
    return factory(environment)
