"""A candidate: an instance as a policy sees it."""

from __future__ import annotations

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
