"""The log sink: where lines go, and what becomes of them when they can't get there."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from fd_router.telemetry.logging.pending_lines import PendingLines

BACKLOG_BYTES = 4 * 1024 * 1024
_RETRY_SLOW_SECS = 0.01
"""A pipe holds 64 KiB, so a busy reader is fed up to 6 MB/s."""
_RETRY_FAILING_SECS = 0.05


class Outlet(Protocol):
    """Something bytes can be written to: a file, a pipe, a terminal."""

    name: str

    def put(self, data: bytearray) -> int:
        """Write some of ``data`` without waiting and return how many bytes: 0 = not now. Raises OSError."""

    def wait(self, seconds: float) -> bool:
        """Wait for up to ``seconds`` until ``put`` may take something, and say whether it may."""

    def close(self) -> None:
        """Let go of the outlet. Never raises."""


def complain_on_stderr(text: str) -> None:
    """Say ``text`` where an operator may see it when the log itself is what fails."""
    with suppress(OSError):
        os.write(2, f"fd-router: {text}\n".encode(errors="backslashreplace"))


class Sink:
    """Writes batches of lines to an outlet; never raises and never waits.

    What can't be written is kept, up to ``limit`` bytes, then the oldest lines are dropped and counted. The first
    failure is told on stderr; when writing works again, ``take_recovery_notice`` has a sentence for the log itself.
    """

    __slots__ = ("_backlog", "_complain", "_failing", "_lost_now", "_news", "_outlet", "lost")

    def __init__(
        self, outlet: Outlet, *, limit: int = BACKLOG_BYTES, complain: Callable[[str], None] = complain_on_stderr
    ) -> None:
        self._outlet = outlet
        self._backlog = PendingLines(limit)
        self._complain = complain
        self._failing = False
        self._lost_now = 0  # since the outlet last took everything
        self._news = ""
        self.lost = 0  # lines dropped since the start

    @property
    def has_backlog(self) -> bool:
        """Whether lines wait to be written."""
        return bool(self._backlog)

    @property
    def retry_secs(self) -> float:
        """When to call ``write(b"")`` for what waits."""
        return _RETRY_FAILING_SECS if self._failing else _RETRY_SLOW_SECS

    def write(self, lines: bytes) -> None:
        """Write whole lines after those that still wait."""
        self._backlog.add(lines)
        try:
            self._drain()
        except OSError as error:
            self._on_failure(error)
        dropped = self._backlog.trim()
        self.lost += dropped
        self._lost_now += dropped

    def _drain(self) -> None:
        backlog = self._backlog
        while backlog:
            count = self._outlet.put(backlog.data)
            if not count:
                return
            backlog.written(count)
        if self._failing or self._lost_now:
            self._news = f"Log {self._outlet.name} can be written again, {self._lost_now} lines were lost"
            self._failing = False
            self._lost_now = 0

    def _on_failure(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            limit = f"{self._backlog.limit / 1048576:g} MiB"
            self._complain(
                f"can't write the log {self._outlet.name}: {error}; the last {limit} of it are kept in memory"
            )

    def take_recovery_notice(self) -> str:
        """Return, once, what should be said in the log about the log; "" = nothing."""
        news, self._news = self._news, ""
        return news

    def close(self, patience_secs: float = 1.0) -> None:
        """Write what waits, giving a slow reader ``patience_secs`` at most between two pieces, and close the outlet."""
        while self._backlog:
            before = len(self._backlog)
            self.write(b"")
            stuck = len(self._backlog) == before
            if self._backlog and stuck and (self._failing or not self._outlet.wait(patience_secs)):
                break
        if self._backlog:
            self.lost += self._backlog.data.count(b"\n")
        self._outlet.close()

    def __repr__(self) -> str:
        state = "failing" if self._failing else "working"
        return f"<Sink {self._outlet.name} {state} {len(self._backlog)} B waiting, {self.lost} lines lost>"
