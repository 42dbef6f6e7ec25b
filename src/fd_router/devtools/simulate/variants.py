"""Policies with options, as a command line names them: ``cache_aware,cache_aware:hit-ratio-weight=2``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec

from fd_router.config.loading import OPTIONS, SchedulerConfig, load
from fd_router.config.options import did_you_mean, kebab
from fd_router.errors import ConfigError
from fd_router.scheduling.policies import POLICIES

_KNOWN = {
    kebab(option.attribute): option
    for option in OPTIONS
    if option.section == "scheduler" and not option.attribute.endswith("policy")
}
_OWN = "policy-options"


class Variant(msgspec.Struct, frozen=True):
    """One policy, under the name that was given, with the scheduler's options in force for it."""

    name: str
    policy: str
    options: SchedulerConfig


def variants_of(policies: str, settings: Sequence[str], config_path: str = "") -> list[Variant]:
    """Read the list of policies. An option behind a policy wins over ``settings`` (``KEY=VALUE``), they over the file.

    Raises ConfigError with a line for each fault.
    """
    variants = [_variant(given.strip(), settings, config_path) for given in policies.split(",") if given.strip()]
    if not variants:
        raise ConfigError(f"--policy: no policy in {policies!r}; give names like {', '.join(sorted(POLICIES))}")
    return variants


def _variant(given: str, settings: Sequence[str], config_path: str) -> Variant:
    parts = given.split(":")
    policy = ":".join(part for part in parts if "=" not in part)
    pairs = _pairs([*settings, *(part for part in parts if "=" in part)])
    flags: dict[str, object] = {"server.port": 1, "scheduler.policy": policy}  # a port, which a router would need
    own: dict[str, Any] = {}
    for key, text in pairs.items():
        if key == _OWN and ":" not in policy:
            continue  # they are another's, of the same list
        if key in _KNOWN:
            flags[f"scheduler.{_KNOWN[key].attribute}"] = text
        elif ":" in policy:
            own[key] = _value(text)
        else:
            raise ConfigError(
                f"{key}={text}: the scheduler has no option {key!r}{did_you_mean(key, _KNOWN)}; "
                "see docs/configuration.md"
            )
    options = load(config_path or None, flags, os.environ).config.scheduler
    own = {**options.policy_options, **own} if ":" in policy else {}  # a file's may be another's, of the same list
    return Variant(given, policy, msgspec.structs.replace(options, policy_options=own))


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    halves = [setting.partition("=") for setting in settings]
    return {kebab(key.strip().removeprefix("scheduler.")): value.strip() for key, _, value in halves}


def _value(text: str) -> Any:
    """Read an option's value as a YAML file's reader would."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
