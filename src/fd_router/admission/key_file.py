"""The file of API keys: read again when it changes, and when a reload asks for it."""

from __future__ import annotations

import asyncio

from fd_router.admission.api_key_store import ApiKeyStore
from fd_router.errors import ConfigError
from fd_router.telemetry.contracts import Log


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
                keys = await asyncio.get_running_loop().run_in_executor(None, store.read)
            except ConfigError as error:
                for problem in error.problems:
                    self._log.error(f"API keys not reloaded, those in force stay: {problem}")
                return error.problems
            await store.replace_in_slices(keys)
        self._log.info(f"API keys loaded: {len(keys)} from {store.path}")
        return ()

    async def watch(self) -> None:
        """Read the file again whenever it has changed, until cancelled."""
        while self._interval:
            await asyncio.sleep(self._interval)
            if self._store.has_changed():
                await self.reload()
