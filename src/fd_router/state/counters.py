"""What is counted of the bus, as protocols: the metrics stand above."""

from __future__ import annotations

from typing import Protocol


class SyncCounters(Protocol):
    """Counts frames, and shows how old what others told is."""

    def sent(self, size: int) -> None:
        """A frame of so many bytes was sent."""

    def received(self, size: int) -> None:
        """A frame of another process came."""

    def unreadable(self, why: str) -> None:
        """A frame was passed over: ``layout``, ``frame`` or ``payload``."""

    def lagged(self, seconds: float) -> None:
        """One of its own frames came back after so many seconds: so old is what others tell, when it comes."""

    def failed(self) -> None:
        """The bus couldn't be had."""
