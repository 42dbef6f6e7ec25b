"""The supervisor, with workers that a test makes."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from fd_router.app.workers import supervisor as of_supervisors
from fd_router.app.workers.supervisor import Supervisor
from fd_router.config.loading import Config
from tests.support.fake_log import FakeLog


class Child:
    """Can't be made the first time."""

    index = 0

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.runs = 0

    async def run(self) -> int:
        self.runs += 1
        if self.runs == 1:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self._supervisor._stopping.set()
        return 0


@pytest.mark.parametrize("is_ready", [True, False])
async def test_a_worker_that_can_not_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch, is_ready: bool) -> None:
    monkeypatch.setattr(of_supervisors, "AGAIN_SECONDS", (0.0, 0.0))
    log: Any = FakeLog()
    supervisor = Supervisor(Config(), log)
    child: Any = Child(supervisor)
    if is_ready:
        supervisor._ready.set()
    await supervisor._keep(child)
    line = "Worker 0 ended (resource temporarily unavailable); it is started again"
    assert ("error", line) in log.lines
    assert (child.runs, supervisor._code) == (2, 0)
