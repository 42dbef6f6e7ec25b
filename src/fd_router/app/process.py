"""One run of the router as a process: signals, limits of the system, start and end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
from collections.abc import Sequence

import uvloop

from fd_router.app.known_differences import known_differences
from fd_router.app.notify import tell_supervisor
from fd_router.app.reload import Load
from fd_router.app.router import Router
from fd_router.app.workers.seat import is_worker, take_seat
from fd_router.app.workers.shares import share_of, sharing
from fd_router.app.workers.supervisor import Supervisor
from fd_router.config.loading import Config
from fd_router.early_signals import Hangup, hold
from fd_router.telemetry.logging.factory import open_log
from fd_router.telemetry.logging.text_log import RouterLog

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

_KEPT_BYTES = 16 * 1024 * 1024
"""Free memory at the heap's end that isn't given back."""

ONE_WORD_SECONDS = 1.0
"""Signals to a worker that are one: what ends a group of processes (``pkill``, systemd's ``KillMode=control-group``)
signals it and its supervisor, which passes that on."""


def run(config: Config, warnings: Sequence[str] = (), *, load: Load | None = None) -> int:
    """Run a router until a signal ends it; ``load`` reads the configuration anew when one asks for that.

    Returns the exit status. Raises FdRouterError when it can't start.
    """
    hangup = hold()
    _allow_many_connections()
    _keep_memory()
    options = {name: getattr(config.log, name) for name in config.log.__struct_fields__}
    log = open_log(**options)
    is_one_of_several = is_worker(os.environ)
    if not is_one_of_several:  # else the supervisor says it
        for warning in warnings:
            log.warn(warning)
        for difference in known_differences(config):
            log.info(difference)
    try:
        if config.server.worker_count > 1 and not is_one_of_several:
            return uvloop.run(Supervisor(config, log).run())
        uvloop.run(_serve(config, log, load, hangup))
    finally:
        log.close()
    return 0


async def _serve(config: Config, log: RouterLog, load: Load | None, hangup: Hangup) -> None:
    loop = asyncio.get_running_loop()
    seat = take_seat(os.environ)
    if seat is not None:
        config = share_of(config, seat.count)
        load = sharing(load, seat.count) if load is not None else None
    stopping, hurry = asyncio.Event(), asyncio.Event()
    told_at = 0.0

    def on_signal() -> None:
        nonlocal told_at
        if not stopping.is_set():
            stopping.set()
            told_at = loop.time()
        elif seat is None or loop.time() - told_at > ONE_WORD_SECONDS:
            hurry.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if seat is not None:
        seat.on_orphaned = on_signal
    router = Router(config, log, load, seat)
    try:
        await router.start()
        loop.add_signal_handler(signal.SIGHUP, router.reload_soon)
        if hangup.came:  # what was read since may have been older
            router.reload_soon()
        _calm_collector()
        tell_supervisor("READY=1")
        await stopping.wait()
        tell_supervisor("STOPPING=1")
        log.info("Stopping: no new connections; running requests go on")
        await router.drain(hurry)
    finally:
        await router.stop()
        if stopping.is_set():  # else it never ran, and an error says why
            log.info("Stopped")


def _calm_collector() -> None:
    """Let the cyclic garbage collector run seldom: hundreds of requests under way look like a leak to it.

    What a request leaves behind holds no cycles and is freed by reference counts. With Python's default of 700
    objects the collector took a tenth of the router's time.

    The loop stands still while it runs, about a ms for 1,000 objects in a cold memory: so few enough of them at a time,
    and those that outlived one run are looked at in the next, not when there are a million. All of them are as seldom
    as may be.
    """
    gc.collect()
    gc.freeze()  # what was built so far stays for good
    gc.set_threshold(20_000, 0, 500)


def _keep_memory() -> None:
    """Let glibc keep what long prompts took for the next ones.

    It would give memory back to the system whenever 128 KB are free, and each 4 KB of it cost a page fault when they
    are needed again: a twentieth of the time for a prompt of 48 KB. Other C libraries have no such call.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 4)  # setting the one would otherwise fix the other at 128 KB


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as the system lets us.

    A stream takes two, one at each side; shells and systemd mostly begin with 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
