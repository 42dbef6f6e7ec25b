"""Several mock instances in one process: what a replay needs, without a process and its memory for each."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from fd_router.config.loading import from_texts
from fd_router.devtools.mock.instance import MockInstance
from fd_router.devtools.mock.options import MockOptions


async def serve(ports: list[int], flags: list[str]) -> None:
    texts = {name.lstrip("-").replace("-", "_"): text for name, text in zip(flags[::2], flags[1::2], strict=True)}
    instances = [MockInstance(from_texts(MockOptions, {**texts, "port": str(port)})) for port in ports]
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    for instance in instances:
        await instance.start()
    await stopped.wait()
    for instance in instances:
        await instance.stop()


if __name__ == "__main__":  # PORT,PORT,… and then the flags of `fd-router mock`, each with its value
    uvloop.run(serve([int(port) for port in sys.argv[1].split(",")], sys.argv[2:]))
