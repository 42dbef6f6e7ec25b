"""A candidate: an instance as a policy sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Candidate(Protocol):
    """An instance as a policy sees it: who it is and what it is busy with. Counts are this router's own."""

    @property
    def url(self) -> str:
        """``http://IP:PORT``, the instance's name in logs and metrics."""

    @property
    def running(self) -> int:
        """Requests sent there and not yet finished."""

    @property
    def tokens(self) -> int:
        """Estimated prompt tokens sent there whose prefill isn't known to be done."""

    @property
    def limit(self) -> int:
        """How many requests it may have at once, 0 where nothing limits them. One that is full is no candidate."""

    @property
    def role(self) -> str:
        """``mixed``, ``prefill`` or ``decode``."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What its registration tells of it beside the known keys: name → value."""
