"""A worker's process: what it is told while it is being made."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Any

import pytest

from fd_router.app.workers import child as of_children
from fd_router.app.workers.child import Child


class Hub:
    """Has something happen while a worker is being made."""

    def __init__(self) -> None:
        self.happens: Any = None

    async def join(self, _process: str, sock: socket.socket) -> None:
        sock.close()
        self.happens()


@pytest.mark.parametrize("what", ["signal", "kill"])
async def test_it_is_told_to_stop_before_there_is_a_process(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A supervisor that is told to stop then would wait for it as long as for a drain."""
    monkeypatch.setattr(of_children, "command_line", lambda: [sys.executable, "-c", "import time; time.sleep(600)"])
    hub: Any = Hub()
    child = Child(0, 1, "group", hub, lambda: None)
    hub.happens = child.kill if what == "kill" else lambda: child.signal(signal.SIGTERM)
    running = asyncio.create_task(child.run())
    try:
        status = await asyncio.wait_for(asyncio.shield(running), 60)
    finally:
        child.kill()
        await running
    assert status == (-signal.SIGKILL if what == "kill" else -signal.SIGTERM)


async def test_a_reload_before_there_is_a_process_needs_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """It will read what is there then; a signal would end it before it knows what it means."""
    monkeypatch.setattr(of_children, "command_line", lambda: [sys.executable, "-c", "import time; time.sleep(0.2)"])
    hub: Any = Hub()
    child = Child(0, 1, "group", hub, lambda: None)
    hub.happens = lambda: child.signal(signal.SIGHUP)
    assert await asyncio.wait_for(child.run(), 60) == 0


async def test_one_that_can_not_be_made_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_children, "command_line", lambda: ["/nowhere/python"])
    hub: Any = Hub()
    hub.happens = lambda: None
    child = Child(0, 1, "group", hub, lambda: None)
    with pytest.raises(FileNotFoundError):
        await child.run()
    assert child.outlet is None
    assert repr(child) == "<Child 0 not running>"
