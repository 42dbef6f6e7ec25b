"""The shares of workers: what a host, and so a configuration, allows is divided among them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fd_router.config.loading import Config, Loaded

SHARED_OUT = {
    "proxy": ("max_connections", "body_budget_mb", "journals_mb"),
    "admission": ("max_queued",),
}
"""Options, by section, that say how much all workers together may have. 0 stays 0: a default, or no limit."""


def share_of(config: Config, workers: int) -> Config:
    """Return the configuration of one of so many workers."""
    sections = {}
    for name, attributes in SHARED_OUT.items():
        section = getattr(config, name)
        parts = {attribute: -(-getattr(section, attribute) // workers) for attribute in attributes}
        sections[name] = msgspec.structs.replace(section, **parts)
    return msgspec.structs.replace(config, **sections)


def sharing(load: Callable[[], Loaded], workers: int) -> Callable[[], Loaded]:
    """Make of what reads the configuration what reads a worker's."""

    def shared() -> Loaded:
        loaded = load()
        return msgspec.structs.replace(loaded, config=share_of(loaded.config, workers))

    return shared
