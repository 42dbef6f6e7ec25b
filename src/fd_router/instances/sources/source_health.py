"""The health of a source: whether it can be asked for its instances, told in the log once each way."""

from __future__ import annotations

from fd_router.telemetry.contracts import Log


class SourceHealth:
    """Of one source. Its instances stay what they are while it can't be asked."""

    __slots__ = ("_log", "_name", "_why", "failures", "is_up")

    def __init__(self, name: str, log: Log) -> None:
        self._name = name
        self._log = log
        self._why = ""
        self.is_up = True
        self.failures = 0

    def failed(self, why: str) -> None:
        """It couldn't be asked; the log tells it, unless it was for the same reason before."""
        if why != self._why:
            self._log.warn(f"Source {self._name} can't be read, its instances stay as they are: {why}")
        self.count_failure()
        self._why = why

    def count_failure(self) -> None:
        """It couldn't be asked, which somebody else tells."""
        self.is_up = False
        self.failures += 1

    def worked(self) -> None:
        """It named its instances."""
        if self._why:
            self._log.info(f"Source {self._name} is read again")
        self.is_up, self._why = True, ""

    def __repr__(self) -> str:
        return f"<SourceHealth of {self._name}: {'up' if self.is_up else 'down'}, {self.failures} failures>"
