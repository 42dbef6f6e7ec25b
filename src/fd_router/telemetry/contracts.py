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


class InstanceLoad(Protocol):
    """An instance's name, and what it is busy with, by this router's requests and those that others told of."""

    @property
    def url(self) -> str:
        """``http://IP:PORT``, its name in logs and metrics."""

    @property
    def running(self) -> int:
        """Requests sent there and not yet finished."""

    @property
    def tokens(self) -> int:
        """Estimated prompt tokens sent there whose prefill isn't known to be done."""


FinishRecord = Callable[[RequestRecord], None]
"""Takes the record of a request that is over, once."""
