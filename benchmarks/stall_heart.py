"""What ``loop_stalls.py`` measures with: a heart that beats on the loop, routers on it, programs beside it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import yaml
from processes import free_port

from fd_router.app.router import Router
from fd_router.config.loading import load
from fd_router.telemetry.logging.factory import open_log

BEAT_SECS = 0.001
_SERVE = """
import sys
async def main():
    server = await asyncio.get_running_loop().create_server(Instance, "0.0.0.0", int(sys.argv[1]), backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

LIMIT_SECS = 300.0
"""How long anything here may take."""

Row = tuple[str, int, float]
"""What was asked, the answer's status, and for how many milliseconds it held the loop."""


class Heart:
    """Beats on the loop, and keeps the longest pause between two beats."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.process_time) -> None:
        """``clock``: ``time.thread_time`` where other threads work that don't keep the loop's from running."""
        self._loop = loop
        self._clock = clock
        self._last = clock()
        self._stopped = False
        self.longest = 0.0
        self._beat()

    def _beat(self) -> None:
        now = self._clock()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        if not self._stopped:
            self._loop.call_later(BEAT_SECS, self._beat)

    def begin_anew(self) -> None:
        """Forget what was until now."""
        self._last, self.longest = self._clock(), 0.0

    def stop(self) -> None:
        """Beat no more."""
        self._stopped = True


@contextmanager
def beating(clock: Callable[[], float] = time.process_time) -> Iterator[Heart]:
    """Give a heart that beats meanwhile."""
    heart = Heart(asyncio.get_running_loop(), clock)
    try:
        yield heart
    finally:
        heart.stop()


def settle_memory() -> None:
    """Do with the garbage collector what ``app.process`` does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 0, 500)


@contextmanager
def program(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program that is told what to do by lines, and says when it is done by lines."""
    command = [sys.executable, "-c", text, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def instance(protocol: str) -> Iterator[int]:
    """Run a process that serves by the class ``Instance`` of ``protocol``, at all addresses; gives its port."""
    port = free_port()
    with program(f"import asyncio\n{protocol}{_SERVE}", str(port)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield port


async def said(process: subprocess.Popen[str], told: str = "") -> str:
    """Tell a program a line, if there is one, and return the next that it says."""
    assert process.stdin is not None
    assert process.stdout is not None
    if told:
        process.stdin.write(told + "\n")
        process.stdin.flush()
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for it. Raises TimeoutError."""
    async with asyncio.timeout(LIMIT_SECS):
        while not is_so():  # noqa: ASYNC110  (what it is about tells nobody)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    directory: Path, sections: Mapping[str, object], *, heart: Heart | None = None, **more: object
) -> AsyncIterator[tuple[Router, int]]:
    """Run a router with these options in this process; gives its port, too. ``more``: what else a Router is given.

    ``heart``: is to tell of what the router does, not of what has been before.
    """
    port = free_port()
    log_options = {"output": "file", "path": str(directory / "router.log"), "level": "error"}
    path = directory / "other.yaml"
    path.write_text(yaml.safe_dump({"server": {"host": "127.0.0.1", "port": port}, "log": log_options, **sections}))
    loaded = load(str(path), {}, {})
    log = open_log(**{name: getattr(loaded.config.log, name) for name in loaded.config.log.__struct_fields__})
    router = Router(loaded.config, log, **more)  # type: ignore[arg-type]
    settle_memory()
    if heart is not None:
        heart.begin_anew()
    try:
        await router.start()
        yield router, port
    finally:
        await router.stop()
        log.close()
