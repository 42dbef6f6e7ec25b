"""The file of API keys: read again when it changes, and when a reload asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fd_router.admission.api_key_store import ApiKeyStore
from fd_router.admission.keys import ApiKey
from fd_router.errors import ConfigError
from fd_router.telemetry.contracts import Log
from fd_router.threads import in_thread

READ_SECS = 30.0
"""How long the file may take to be read: it may lie on a network mount that is away."""


class KeyFile:
    """Keeps the keys in force those of the file. One that can't be used changes nothing."""

    def __init__(self, store: ApiKeyStore, interval: float, log: Log) -> None:
        """``interval``: seconds after which ``watch`` looks at the file again; 0: never."""
        self._store = store
        self._interval = interval
        self._log = log
        self._turn = asyncio.Lock()  # of who reads

    async def reload(self) -> tuple[str, ...]:
        """Read the file again. Returns a line for each problem; if there is any, nothing has changed."""
        store = self._store
        async with self._turn:
            try:
                keys = await self._read()
            except ConfigError as error:
                for problem in error.problems:
                    self._log.error(f"API keys not reloaded, those in force stay: {problem}")
                return error.problems
            await store.replace_in_slices(keys)
        self._log.info(f"API keys loaded: {len(keys)} from {store.path}")
        return ()

    async def _read(self) -> Sequence[ApiKey]:
        try:
            return await in_thread(self._store.read, limit_secs=READ_SECS)
        except TimeoutError:
            self._store.forget_reading()
            raise ConfigError(f"{self._store.path}: can't be read within {READ_SECS:g} s") from None

    async def watch(self) -> None:
        """Read the file again whenever it has changed, until cancelled."""
        while self._interval:
            await asyncio.sleep(self._interval)
            if await in_thread(self._store.has_changed):
                await self.reload()
