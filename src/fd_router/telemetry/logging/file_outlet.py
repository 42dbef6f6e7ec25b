"""A log file as an outlet: opened when needed, opened anew when rotated, put away when a day is over or it is full."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date

from fd_router.telemetry.logging.rotation import Archive

_INSPECT_SECS = 1.0
"""How long a rotation by somebody else (logrotate) may go unnoticed."""


def in_background(job: Callable[[], None]) -> None:
    """Run ``job`` in a thread of its own: deleting a large file can take longer than a token."""
    threading.Thread(target=job, name="fd-router-log-clean-up", daemon=True).start()


class FileOutlet:
    """Appends to ``archive.path``, whose directory is made when missing.

    ``O_APPEND`` and one ``write`` a batch, so that several processes may share the file and ``copytruncate`` works.
    ``monotonic`` times the inspections, ``run`` gets the clean-up, every ``clean_up_secs`` and after each rotation.
    """

    __slots__ = (
        "_archive", "_clean_up_at", "_clean_up_secs", "_day", "_fd", "_identity", "_inspect_at", "_monotonic",
        "_path", "_run", "name",
    )  # fmt: skip

    def __init__(
        self,
        archive: Archive,
        *,
        clean_up_secs: float = 3600.0,
        monotonic: Callable[[], float] = time.monotonic,
        run: Callable[[Callable[[], None]], None] = in_background,
    ) -> None:
        self._archive = archive
        self._path = archive.path
        self.name = str(archive.path)
        self._clean_up_secs = clean_up_secs
        self._monotonic = monotonic
        self._run = run
        self._fd = -1
        self._identity = (0, 0)  # device and inode of the file that is open
        self._day = date.min  # the day whose lines the open file has
        self._inspect_at = 0.0
        self._clean_up_at = 0.0

    def put(self, data: bytearray) -> int:
        """Write some of ``data``. Raises OSError."""
        now = self._monotonic()
        if self._fd < 0 or now >= self._inspect_at:
            self._inspect_at = now + _INSPECT_SECS
            self._inspect(now)
        return os.write(self._fd, data)

    def wait(self, seconds: float) -> bool:  # noqa: ARG002 - the Outlet's signature
        """Return True: a file always takes what it is given, or raises."""
        return True

    def _inspect(self, now: float) -> None:
        if self._fd < 0:
            self._open()
        found = self._stat()
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            found = self._open()
        if self._is_over(found):
            self._put_away()
            self._clean_up_at = now
        if now >= self._clean_up_at:
            self._clean_up_at = now + self._clean_up_secs
            self._run(self._archive.clean_up)

    def _stat(self) -> os.stat_result | None:
        with suppress(FileNotFoundError):
            return self._path.stat()
        return None

    def _is_over(self, found: os.stat_result) -> bool:
        """Whether the open file belongs to a day that is past, or is full. A pipe or a device never is."""
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return False
        return found.st_size >= self._archive.full_at or self._day != self._archive.today()

    def _put_away(self) -> None:
        with suppress(OSError):  # a directory that can't be changed: go on in the file that is open
            self._archive.put_away(self._day)
            self._open()

    def _open(self) -> os.stat_result:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.close()
        self._fd = fd
        found = os.fstat(fd)
        self._identity = (found.st_dev, found.st_ino)
        self._day = Archive.day_of(found.st_mtime) if found.st_size else self._archive.today()
        return found

    def close(self) -> None:
        """Close the file; the next ``put`` would open it again."""
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1
