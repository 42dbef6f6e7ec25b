"""The counters of workers that have ended, or don't answer: where a sum falls, all seem to have begun anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from fd_router.telemetry.metrics.merging import OF_A_PROCESS

MOST: Final = 100
"""Processes that are remembered. Of workers that end again and again, the sum falls by the first ones' few counts."""

_START: Final = "process_start_time_seconds "
"""Tells a worker from the one before in its place."""

_AGE: Final = "process_cpu_seconds_total "
"""Tells which of two pages of one process is the later."""

_COUNTING: Final = frozenset({"counter", "histogram", "summary"})

Counters = tuple[float, bytes]
"""The age of a process, and its counters as a page."""


class Told(msgspec.Struct, array_like=True):
    """What one worker tells another, asked or asking: its number and page, and what it knows of all."""

    worker: str
    page: bytes
    known: dict[str, Counters]


class KeptCounters:
    """What each worker's page said last. Each of them has it from the others: any of them may end."""

    def __init__(self) -> None:
        self._known: dict[str, Counters] = {}  # by process

    def learn(self, worker: str, page: bytes) -> str:
        """Take a worker's page. Returns by what name its process is known."""
        start, age, counters = _counters_of(page)
        process = f"{worker}@{start}"
        self.take({process: (age, counters)})
        return process

    def take(self, told: Mapping[str, Counters]) -> None:
        """Take what another one knows, where that is later."""
        for process, counters in told.items():
            if process not in self._known or counters[0] >= self._known[process][0]:
                self._known[process] = counters
        while len(self._known) > MOST:
            del self._known[min(self._known, key=_started)]

    def all(self) -> dict[str, Counters]:
        """Return what is known, by process."""
        return dict(self._known)

    def without(self, processes: Collection[str]) -> dict[str, bytes]:
        """Return the counters of those whose pages aren't there."""
        return {process: page for process, (_, page) in self._known.items() if process not in processes}

    def __repr__(self) -> str:
        return f"<KeptCounters of {len(self._known)}>"


def _started(process: str) -> float:
    return float(process.partition("@")[2])


def _counters_of(page: bytes) -> tuple[float, float, bytes]:
    """Return when a page's process began, its age, and its counters that aren't zero."""
    start, age = 0.0, 0.0
    lines: list[str] = []
    comments: list[str] = []
    is_kept = False
    for line in page.decode().splitlines():
        if line.startswith("# HELP "):
            comments, is_kept = [line], False
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            comments.append(line)
            is_kept = kind in _COUNTING and not name.startswith(OF_A_PROCESS)
        elif is_kept:
            if not line.endswith(" 0.0"):
                lines += [*comments, line]
                comments = []
        elif line.startswith(_START):
            start = float(line.rpartition(" ")[2])
        elif line.startswith(_AGE):
            age = float(line.rpartition(" ")[2])
    return start, age, "".join([f"{line}\n" for line in lines]).encode()
