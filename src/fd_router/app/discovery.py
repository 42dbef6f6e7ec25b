"""The part of the composition root that opens the discoveries that the configuration asks for, in order of rank."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.config.sections import Config
from fd_router.instances.sources.contract import InstanceSource
from fd_router.instances.sources.members import Accept
from fd_router.instances.sources.watched_file import WatchedFile


def open_discoveries(config: Config, accept: Accept) -> Sequence[InstanceSource]:
    """Make them; the first is the highest. ``accept`` raises RegistrationError for what can't be a member here."""
    sources: list[InstanceSource] = []
    if path := config.discovery.file:
        sources.append(WatchedFile(path, accept, config.discovery.file_check_secs))
    return sources
