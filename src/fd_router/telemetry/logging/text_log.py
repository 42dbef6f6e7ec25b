"""The router's log in FastDeploy's text format: lines built once, written in batches, never in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from fd_router.moments import until_next
from fd_router.telemetry.access import access_line
from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.sanitize import escape_controls

LEVELS = ("debug", "info", "warn", "error")

_BATCH_SECS = 0.05
_BATCH_PIECES = 64
"""So many pieces of text don't wait for their 50 ms: they are still in the processor's cache, hundreds wouldn't be."""


class RouterLog:
    """Writes ``[INFO] 2026/03/30 20:16:57 logger.go:79: {tags}{message}`` at or above a level.

    Lines wait at most 50 ms to be written together; a warning or an error takes what waits along at once. Nothing
    runs while nothing is logged. Before ``start`` and after ``stop`` every line is written at once. No method
    raises, waits, or lets a message begin a line of its own. ``tags`` come from ``context_tags``. Failures may quote
    what others sent, so all control characters in warnings and errors are escaped; the messages of the other
    levels are made of the router's own words, and only looked at for line feeds; those of ``info_all``, which every
    request logs, aren't even looked at: who makes one of what others sent escapes that.

    ``sink`` takes all lines; errors go to ``error_sink`` instead when there is one (FastDeploy's router: stderr).
    ``clock`` gives seconds since 1970.
    """

    __slots__ = (
        "_append", "_clock", "_debug_head", "_error_sink", "_idle", "_info_head", "_lines", "_loop", "_second", "_sink",
        "_stamp", "_timer", "debug_on", "info_on", "warn_on",
    )  # fmt: skip

    def __init__(
        self,
        sink: Sink,
        *,
        level: str = "info",
        error_sink: Sink | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.set_level(level)
        self._sink = sink
        self._error_sink = error_sink or sink
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lines: list[str] = []
        self._append: Callable[[str], None] = self._write_now
        self._idle = True  # no flush is due, so the time stamp may be old
        self._second = -1
        self._stamp = self._info_head = self._debug_head = ""

    def set_level(self, level: str) -> None:
        """Log nothing below ``level`` from now on."""
        threshold = LEVELS.index(level)
        self.debug_on = threshold <= 0  # ask before a costly message is built
        self.info_on = threshold <= 1
        self.warn_on = threshold <= 2

    # -- what the router calls

    def info(self, message: str, tags: str = "") -> None:
        """Log what an operator or a script follows."""
        if self.info_on:
            if self._idle:
                self._wake()
            append = self._append
            append(f"{self._info_head}{tags}{_one_line(message)}")

    def info_all(self, messages: Sequence[str], tags: str = "") -> None:
        """Log several lines of one request at once, which costs little more than one line."""
        if self.info_on and messages:
            if self._idle:
                self._wake()
            head, append = f"{self._info_head}{tags}", self._append
            append(f"{head}{head.join(messages)}")

    def finished(self, record: RequestRecord) -> None:
        """Log the line of a finished request, at info, after what was still to be said of it: as a ``RecordSink``."""
        if self.info_on:
            if self._idle:
                self._wake()
            head, append = f"{self._info_head}{record.tags}", self._append
            notes = head.join(record.notes)
            append(f"{head}{notes}{head}{access_line(record)}" if notes else f"{head}{access_line(record)}")
            if len(self._lines) >= _BATCH_PIECES:
                self.flush()

    def debug(self, message: str, tags: str = "") -> None:
        """Log what helps to find a fault."""
        if self.debug_on:
            if self._idle:
                self._wake()
            self._append(f"{self._debug_head}{tags}{_one_line(message)}")

    def warn(self, message: str, tags: str = "", *, at_once: bool = True) -> None:
        """Log what is not as it should be but was dealt with; ``at_once`` unless it may come with every request."""
        if self.warn_on:
            self._wake()
            self._append(self._line("WARN", message, tags))
            if at_once:
                self.flush()

    def error(self, message: str, tags: str = "") -> None:
        """Log a failure; written at once."""
        self._wake()
        line = self._line("ERROR", message, tags)
        if self._error_sink is self._sink:
            self._append(line)
            self.flush()
        else:
            self.flush()
            self._error_sink.write(_encode([line]))

    @property
    def lines_lost(self) -> int:
        """Lines dropped since the start because they could not be written."""
        return self._sink.lost if self._error_sink is self._sink else self._sink.lost + self._error_sink.lost

    # -- batches

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Write in batches from now on, timed by ``loop`` (the running one unless given)."""
        self._loop = loop or asyncio.get_running_loop()
        self._append = self._lines.append

    def stop(self) -> None:
        """Write what waits, and each further line at once: the loop is about to end."""
        self._append = self._write_now
        self._loop = None
        self._idle = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def close(self) -> None:
        """Write everything, waiting about a second at most for a stuck reader, and close the sinks; the last call."""
        self.stop()
        self._sink.close()
        if self._error_sink is not self._sink:
            self._error_sink.close()

    def flush(self) -> None:
        """Write now what waits."""
        if self._lines:
            data = _encode(self._lines)
            self._lines.clear()
            self._sink.write(data)
        if news := self._sink.take_recovery_notice() or self._error_sink.take_recovery_notice():
            self._refresh()
            self._sink.write(_encode([self._line("WARN", news, "")]))

    def _write_now(self, line: str) -> None:
        self._lines.append(line)
        self.flush()

    def _wake(self) -> None:
        """See what time it is and, when this is the first line after an idle time, have the batch written in 50 ms.

        Or before: where something else comes every 50 ms, too.
        """
        self._refresh()
        if self._idle and self._loop is not None:
            self._schedule(until_next(_BATCH_SECS, self._loop.time()))

    def _schedule(self, seconds: float) -> None:
        if self._loop is not None:
            self._idle = False
            self._timer = self._loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._idle = True
        self.flush()
        delays = [sink.retry_secs for sink in (self._sink, self._error_sink) if sink.has_backlog]
        if delays:
            self._refresh()
            self._schedule(min(delays))
            self._sink.write(b"")
            if self._error_sink is not self._sink:
                self._error_sink.write(b"")

    # -- lines

    def _refresh(self) -> None:
        now = int(self._clock())
        if now != self._second:
            self._set_second(now)

    def _set_second(self, now: int) -> None:
        self._second = now
        self._stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(now))
        self._info_head = f"\n[INFO] {self._stamp} logger.go:79: "
        self._debug_head = f"\n[DEBUG] {self._stamp} logger.go:79: "

    def _line(self, level: str, message: str, tags: str) -> str:
        return f"\n[{level}] {self._stamp} logger.go:79: {tags}{escape_controls(message)}"


def _one_line(message: str) -> str:
    return escape_controls(message) if "\n" in message else message


def _encode(lines: list[str]) -> bytes:
    """Return lines as they are written. Each begins with its line feed: so one text joins all lines of a request."""
    return "".join((lines[0][1:], *lines[1:], "\n")).encode("utf-8", "backslashreplace")
