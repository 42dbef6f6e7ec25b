"""The part of the composition root that records what policies do, where ``telemetry.recording-folder`` says so."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from fd_router.config.loading import Config, SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.scheduling.recording.key_mask import SECRET_BYTES
from fd_router.scheduling.recording.recorder import Recorder
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.threads import in_thread

FLUSH_SECS: Final = 0.5
"""How often what was recorded is written, by a thread: a disk that hangs holds nobody up."""

LAST_SECS: Final = 1.0
"""How long a router that ends waits for what is being written."""

MOST_WAITING: Final = 64 * 1024 * 1024
"""Bytes that wait for the disk; beyond that the recording ends, for one with gaps can't be recomputed."""


class Recording:
    """A file of its own for each process that records, and the recorder that fills it."""

    def __init__(self, path: Path, limit: int, log: RouterLog, options: SchedulerConfig) -> None:
        """``limit``: bytes. Raises OSError when the file can't be made."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._path = path
        self._limit = limit
        self._log = log
        self._written = 0
        self._waiting: list[bytes] = []
        self._size = 0  # bytes that wait
        self._is_free = threading.Event()  # no thread is writing …
        self._is_free.set()
        self._is_cut = False  # … and none has failed, perhaps in the middle of a line
        self.recorder = Recorder(
            time.monotonic, self._write, secrets.token_bytes(SECRET_BYTES), options.cache_block_size
        )
        self.recorder.begin(time.time(), _numbers_of(options))

    async def run(self) -> None:
        """Write what has come, from time to time, until the recording ends."""
        while self.recorder.is_open or self._waiting:
            await asyncio.sleep(FLUSH_SECS)
            data = self._take()
            self._is_free.clear()
            try:
                await in_thread(partial(self._write_in_thread, data))
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Write what is left; the last lines of a recording matter less than that the router ends."""
        if not self._is_free.wait(LAST_SECS):  # else one would write between the other's lines
            self._end(f"can't be written: it takes longer than {LAST_SECS:g} s")
        elif not self._is_cut:
            try:
                self._write_all(self._take())
            except OSError as error:
                self._fail(error)
        self.recorder.is_open = False
        self._file.close()

    def _write(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)
        self._written += len(line)
        if self._written > self._limit:
            self._end("is as large as telemetry.recording-max-mb lets it be")
        elif self._size > MOST_WAITING:
            self._end("can't be written as fast as requests come")

    def _write_in_thread(self, data: bytes) -> None:
        try:
            self._write_all(data)
        except OSError:
            self._is_cut = True
            raise
        finally:
            self._is_free.set()

    def _write_all(self, data: bytes) -> None:
        """Write ``data``. Raises OSError: a disk that gets full takes a part before it says so."""
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def _take(self) -> bytes:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        return data

    def _fail(self, error: OSError) -> None:
        """Write nothing more, also if there is room again: it would go on in the middle of a line."""
        self._end(f"can't be written: {error.strerror}")
        self._take()

    def _end(self, why: str) -> None:
        if self.recorder.is_open:
            self.recorder.is_open = False
            self._log.warn(f"The recording {self._path} {why}; it ends here")


def build_recording(config: Config, log: RouterLog) -> Recording:
    """Build what records. Raises ConfigError when its file can't be made."""
    options = config.telemetry
    name = f"recording-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl"
    path = Path(options.recording_folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recording = Recording(path, options.recording_max_mb << 20, log, config.scheduler)
    except OSError as error:
        raise ConfigError(
            f"telemetry.recording-folder: {options.recording_folder!r}: no file can be made there: {error.strerror}"
        ) from None
    log.info(f"Recording what requests look like, as numbers, to {path}")
    return recording


def _numbers_of(options: SchedulerConfig) -> dict[str, Any]:
    """Return the options that are numbers: addresses and paths are nobody's business."""
    fields = msgspec.structs.asdict(options).items()
    return {name: value for name, value in fields if isinstance(value, (int, float)) and not isinstance(value, bool)}
