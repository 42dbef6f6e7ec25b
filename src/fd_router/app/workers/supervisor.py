"""The supervisor: starts workers, starts those again that end, hands connections over, and carries their messages."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence

from fd_router.admission.common_limits import CommonLimits
from fd_router.app.notify import tell_supervisor
from fd_router.app.process_name import process_name
from fd_router.app.serving import HAND_OVER_SECONDS
from fd_router.app.workers.child import Child
from fd_router.config.host_names import authority
from fd_router.config.loading import Config
from fd_router.http.dispatch import CONTROL, MAIN, Dispatcher, Outlet
from fd_router.http.listener import Listener, handed_over, open_sockets
from fd_router.state.local.hub import Hub
from fd_router.telemetry.logging.text_log import RouterLog

AGAIN_SECONDS = (0.1, 5.0)
"""Before a worker that has ended is started again: the first time, and the longest, for one that ends at once."""

LASTING_SECONDS = 10.0
"""A worker that ran for so long didn't end at once."""

READY_SECONDS = 2.0
"""How long the first worker that is ready waits for the others: it would get all clients that wait."""

STOP_SECONDS = 10.0
"""How long workers may take to end after ``server.drain-timeout-secs``; then they are killed."""


class Supervisor:
    """One run of a supervisor, on the loop that runs."""

    def __init__(self, config: Config, log: RouterLog) -> None:
        self._config = config
        self._log = log
        self._group = process_name()
        self._hub = Hub(CommonLimits(time.monotonic), time.monotonic)
        self._children: list[Child] = []
        self._listeners: list[Listener] = []
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Serve until a signal ends it. Returns the exit status. Raises FdRouterError when a port can't be had."""
        loop = asyncio.get_running_loop()
        self._log.start(loop)
        self._listen()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._signal_all, signal.SIGHUP)
        count = self._config.server.worker_count
        self._children = [Child(index, count, self._group, self._hub, self._on_ready) for index in range(count)]
        keeping = [loop.create_task(self._keep(child)) for child in self._children]
        try:
            await self._serve()
            await asyncio.gather(*keeping)
        finally:
            for task in keeping:
                task.cancel()
            for child in self._children:
                child.kill()
            await asyncio.gather(*keeping, return_exceptions=True)
            for listener in self._listeners:
                listener.close()
            self._hub.close()
            self._log.info("Stopped")
        return self._code

    def _listen(self) -> None:
        server, access = self._config.server, self._config.access
        handed = handed_over(os.environ, os.getpid())
        ports = [(handed or open_sockets(server.host, server.port, reuse_port=server.reuse_port), MAIN)]
        if access.control_port:
            sockets = open_sockets(access.control_host, access.control_port, reuse_port=server.reuse_port)
            ports.append((sockets, CONTROL))
        for sockets, port in ports:
            listener = Listener(
                sockets,
                asyncio.Protocol,
                greeter=Dispatcher(self._outlets, port),
                is_shared=port == MAIN and bool(handed),
                takes_over=server.reuse_port or (port == MAIN and bool(handed)),
                keepalive_secs=self._config.proxy.client_keepalive_secs,
            )
            if not listener.takes_over:
                listener.hold()
            self._listeners.append(listener)

    async def _serve(self) -> None:
        """Hand connections over from when a worker is ready until it is time to stop."""
        server = self._config.server
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._ready, self._stopping)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if self._ready.is_set() and not self._stopping.is_set():
            for listener in self._listeners:
                await listener.start()
            self._log.info(f"{server.worker_count} workers serve {authority(server.host, server.port)}")
            tell_supervisor("READY=1")
            await self._stopping.wait()
            tell_supervisor("STOPPING=1")
            await asyncio.sleep(max(server.drain_delay_secs, HAND_OVER_SECONDS if server.reuse_port else 0))
            self._listeners[0].stop()
        for child in self._children:
            child.finish()

    # workers

    def _outlets(self) -> Sequence[Outlet]:
        return [child.outlet for child in self._children if child.outlet is not None]

    def _on_ready(self) -> None:
        if all(child.outlet is not None and child.outlet.is_ready for child in self._children):
            self._ready.set()
        else:
            asyncio.get_running_loop().call_later(READY_SECONDS, self._ready.set)

    async def _keep(self, child: Child) -> None:
        """Start a worker, and again each time that it ends."""
        pause = AGAIN_SECONDS[0]
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                status = await child.run()
                how = _in_words(status)
            except OSError as error:  # the system has no process, or file, left for it
                status, how = 0, (error.strerror or str(error)).lower()
            if self._stopping.is_set():
                return
            if status and not self._ready.is_set():  # it can't start, and said why
                self._code = status
                self._on_stop(signal.SIGTERM)
                return
            lasted = time.monotonic() - began
            pause = AGAIN_SECONDS[0] if lasted > LASTING_SECONDS else min(pause * 2, AGAIN_SECONDS[1])
            self._log.error(f"Worker {child.index} ended ({how}); it is started again")
            await asyncio.sleep(pause)

    # signals

    def _on_stop(self, number: int) -> None:
        if not self._stopping.is_set():
            self._log.info("Stopping: no new connections; running requests go on")
            asyncio.get_running_loop().call_later(
                self._config.server.drain_delay_secs + self._config.server.drain_timeout_secs + STOP_SECONDS, self._kill
            )
        self._stopping.set()
        self._signal_all(number)

    def _signal_all(self, number: int) -> None:
        for child in self._children:
            child.signal(number)

    def _kill(self) -> None:
        for child in self._children:
            child.kill()


def _in_words(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status}"
