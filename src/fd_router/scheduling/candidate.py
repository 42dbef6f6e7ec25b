"""A candidate: an instance as a policy sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fd_router.telemetry.contracts import InstanceLoad


class Candidate(InstanceLoad, Protocol):
    """An instance as a policy sees it: who it is and what it is busy with. Counts are of all routers."""

    @property
    def limit(self) -> int:
        """How many requests it may have at once, 0 where nothing limits them. One that is full is no candidate."""

    @property
    def role(self) -> str:
        """``mixed``, ``prefill`` or ``decode``."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What its registration tells of it beside the known keys: name → value."""
