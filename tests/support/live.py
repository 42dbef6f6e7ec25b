"""A live configuration of a test's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from fd_router.config.live import LiveConfig
from fd_router.config.sections import Config


def with_options(config: Config, **sections: Mapping[str, Any]) -> Config:
    """Return ``config`` with other values: ``with_options(config, proxy={"max_attempts": 1})``."""
    changed = {name: replace(getattr(config, name), **options) for name, options in sections.items()}
    return replace(config, **changed)


def live_config(**sections: Mapping[str, Any]) -> LiveConfig:
    """Make a live configuration: the defaults, but for what is given."""
    return LiveConfig(with_options(Config(), **sections))


def change(live: LiveConfig, **sections: Mapping[str, Any]) -> None:
    """Put other values in force, as a reload does."""
    live.replace(with_options(live.current, **sections))
