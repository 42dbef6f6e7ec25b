"""Telemetry's contracts: what those below it are given to log with, and to hand a finished request to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fd_router.telemetry.record import RequestRecord


class Log(Protocol):
    """Takes one message, without level, time or line end."""

    def info(self, message: str, /) -> None:
        """Log ``message`` at INFO."""

    def warn(self, message: str, /) -> None:
        """Log ``message`` at WARN."""

    def error(self, message: str, /) -> None:
        """Log ``message`` at ERROR."""


FinishRecord = Callable[[RequestRecord], None]
"""Takes the record of a request that is over, once."""
