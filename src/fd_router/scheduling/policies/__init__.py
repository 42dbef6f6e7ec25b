"""The scheduling strategies, one idea a file, and how one is built by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fd_router.config.loading import POLICIES, SchedulerConfig
from fd_router.config.policies import BUILT_IN
from fd_router.errors import ConfigError
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.plugins.loading import PolicyClass
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.prefix.index import PrefixIndex

__all__ = ["POLICIES", "find_policy", "make_index", "make_policy"]


def make_policy(
    name: str,
    environment: Environment,
    options: SchedulerConfig = SchedulerConfig(),  # noqa: B008  (frozen)
    *,
    own_options: Mapping[str, Any] = MappingProxyType({}),
    key: str = "scheduler.policy",
) -> Policy:
    """Build the policy called ``name``: one of the table's, or a plug-in's ``module:Class``.

    Its options are those of ``options`` that the table calls its own, and ``own_options``, which win. ``key`` is the
    option that it was named by. Raises ConfigError with a line for each fault.
    """
    return find_policy(name, options.policy_folder, role=environment.role, key=key).build(
        environment, _flat_options(name, options), own_options
    )


def find_policy(name: str, folder: str = "", *, role: str = "mixed", key: str = "scheduler.policy") -> PolicyClass:
    """Find the class of the policy called ``name`` for instances of ``role``. Raises ConfigError."""
    if ":" in name:
        return PolicyClass.plugin(name, folder, key)
    built_in = BUILT_IN.get(name)
    if built_in is None:
        raise ConfigError(f"scheduler policy {name!r} is not available; choose one of: {', '.join(sorted(BUILT_IN))}")
    path = (built_in.decode_path if role == "decode" else "") or built_in.path
    return PolicyClass.built_in(name, f"fd_router.scheduling.{path}", key)


def make_index(
    clock: Callable[[], float], options: SchedulerConfig, kind: type[PrefixIndex] = PrefixIndex
) -> PrefixIndex:
    """Build the prefix index, which all roles may share: no instance has two roles at a time."""
    return kind(
        clock,
        max_blocks=options.cache_index_max_blocks,
        duration=options.eviction_duration_mins * 60,
        instance_blocks=options.cache_instance_max_blocks,
    )


def _flat_options(name: str, options: SchedulerConfig) -> Mapping[str, Any]:
    """Return the flat options of the section that are the policy's own, by its names for them."""
    flat = BUILT_IN[name].flat if name in BUILT_IN else {}
    return {option: getattr(options, attribute) for option, attribute in flat.items()}
