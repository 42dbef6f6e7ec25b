"""A file of instances that is followed as it changes, in the form of ``register.yaml``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from fd_router.instances.sources.members import Accept, SourceMembers
from fd_router.instances.sources.register_yaml import Problem, read_register_file
from fd_router.threads import in_thread

Signature = tuple[int, int, int]
"""What tells one state of a file from another: time of the last change, size, inode."""

MISSING: Signature = (0, 0, 0)

SAID: Final = 10
"""Problems that the log names; ``fd-router check-config`` names all."""


class WatchedFile:
    """The source that names what the file does, again whenever it has changed. It takes all of a file, or nothing.

    The file is looked at again and again rather than by inotify, which tells nothing of a network's file system, nor
    of the links by which Kubernetes puts another ConfigMap in place.
    """

    def __init__(self, path: str, accept: Accept, check_secs: float) -> None:
        """``accept`` raises RegistrationError for what can't be a member here."""
        self.name = f"file {path}"
        self._path = Path(path)
        self._accept = accept
        self._check_secs = check_secs
        self._read_of: Signature | None = None  # what the file was when it was read last
        self.has_named = asyncio.Event()
        """Set once what the file names at the start is known: its instances are probed before clients come."""

    async def run(self, members: SourceMembers) -> None:
        """Name what the file has, now and after each change."""
        seen = _signature(self._path)
        while True:
            if seen != self._read_of:
                try:
                    await self._follow(members)
                finally:
                    self.has_named.set()
                self._read_of = seen
            before = seen
            await self._pause()
            seen = await in_thread(partial(_signature, self._path))
            while seen != before:  # somebody is writing: half a file may look like a whole one
                before = seen
                await self._pause()
                seen = await in_thread(partial(_signature, self._path))

    async def _follow(self, members: SourceMembers) -> None:
        file = await in_thread(partial(read_register_file, self._path, self._accept))
        if file.problems:
            members.health.failed(_said(file.problems))
        else:
            await members.replace_in_slices(file.entries.values(), indices=file.entries)

    async def _pause(self) -> None:
        await asyncio.sleep(self._check_secs)

    def __repr__(self) -> str:
        return f"<WatchedFile {self._path}>"


def _said(problems: Sequence[Problem]) -> str:
    """Say what is wrong in one line, however much it is."""
    more = len(problems) - SAID
    return "; ".join([*map(str, problems[:SAID]), *([f"and {more:,} more"] if more > 0 else ())])


def _signature(path: Path) -> Signature:
    """Follow links: what is behind them may be another file now."""
    try:
        stat = path.stat()
    except OSError:  # reading it tells why
        return MISSING
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
