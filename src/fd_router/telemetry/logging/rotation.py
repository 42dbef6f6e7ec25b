"""Old log files: their names, and which of them may stay. A log must not fill the disk it is on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta
from itertools import count
from pathlib import Path

_SHARE_OF_TOTAL = 5
"""A file is full at a fifth of the total allowed, so that cleaning up never takes more than that much of the past."""


class Archive:
    """The files ``router.log.YYYY-MM-DD[.n]`` beside the log ``path``.

    Files of more than ``max_age_days`` ago go, and the oldest while all together, the log included, take more than
    ``max_total_bytes``. 0 = no limit. Other names are never touched.
    """

    __slots__ = ("_clock", "_max_age_days", "_max_total_bytes", "_pattern", "full_at", "path")

    def __init__(
        self,
        path: Path,
        max_age_days: int = 7,
        max_total_bytes: int = 500 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._max_age_days = max_age_days
        self._max_total_bytes = max_total_bytes
        self._clock = clock
        self._pattern = re.compile(re.escape(path.name) + r"\.(\d{4}-\d\d-\d\d)(?:\.(\d+))?")
        self.full_at = max_total_bytes // _SHARE_OF_TOTAL or float("inf")  # bytes at which a file is put away

    def today(self) -> date:
        """Return today's local date."""
        return self.day_of(self._clock())

    @staticmethod
    def day_of(timestamp: float) -> date:
        """Return the local date of ``timestamp``, in seconds since 1970."""
        return date(*time.localtime(timestamp)[:3])

    def put_away(self, day: date) -> None:
        """Rename the log to the first free name of ``day``. Raises OSError."""
        base = self.path.with_name(f"{self.path.name}.{day.isoformat()}")
        names = (base if n == 0 else base.with_name(f"{base.name}.{n}") for n in count())
        self.path.rename(next(name for name in names if not name.exists()))

    def old_files(self) -> list[tuple[date, int, Path]]:
        """Return (day, number, file) of what was put away, oldest first. Raises OSError."""
        found = []
        for file in self.path.parent.iterdir():
            if match := self._pattern.fullmatch(file.name):
                with suppress(ValueError):  # the 30th of February isn't ours
                    found.append((date.fromisoformat(match[1]), int(match[2] or 0), file))
        return sorted(found)

    def clean_up(self) -> None:
        """Delete what is too old or too much. Errors are left for the next time: the log itself goes on."""
        with suppress(OSError):
            self._clean_up()

    def _clean_up(self) -> None:
        old = self.old_files()
        if self._max_age_days > 0:
            oldest_day = self.today() - timedelta(days=self._max_age_days)
            for _, _, file in [entry for entry in old if entry[0] < oldest_day]:
                file.unlink(missing_ok=True)
            old = [entry for entry in old if entry[0] >= oldest_day]
        if self._max_total_bytes > 0:
            sizes = [file.stat().st_size for _, _, file in old]
            total = sum(sizes) + (self.path.stat().st_size if self.path.exists() else 0)
            for (_, _, file), size in zip(old, sizes, strict=True):
                if total <= self._max_total_bytes:
                    break
                file.unlink(missing_ok=True)
                total -= size
