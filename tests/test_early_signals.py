"""Signals that come while the program still imports its modules, and those that it has no use for."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import eventually
from tests.support.mock_process import SOURCES
from tests.support.ports import free_port

ENVIRONMENT = {"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin"}
HELD = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, and shells in the background, have them ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from fd_router.early_signals import hold, let_go
hangup = hold()
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    os.kill(os.getpid(), number)
assert hangup.came and hold() is hangup
"""


def run(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, timeout=30).returncode  # noqa: PLW1510


def test_none_of_them_ends_a_process_that_starts() -> None:
    assert run(HELD) == 0


def test_ctrl_c_ends_it_at_once_and_says_nothing() -> None:
    assert run(f"{HELD}os.kill(os.getpid(), signal.SIGINT)") == -signal.SIGINT


def test_a_command_that_is_no_router_is_ended_by_its_terminal_and_handles_ctrl_c() -> None:
    code = f"{HELD}let_go()\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    assert run(code) == 0
    assert run(f"{code}os.kill(os.getpid(), signal.SIGHUP)") == -signal.SIGHUP


def test_a_handler_that_is_there_stays() -> None:
    ignored = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"  # as nohup does
    assert run(f"{ignored}from fd_router.early_signals import hold\nassert not hold().came\n") == 0


def _catches(process: subprocess.Popen[str], number: int) -> bool:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (mask,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")]
    return bool(mask >> (number - 1) & 1)


@pytest.mark.slow
def test_a_router_that_is_told_to_reload_while_it_starts_does_so_when_it_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "fd_router", "--host", "127.0.0.1", "--port", str(free_port())]
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=output, stderr=output, text=True, cwd=tmp_path)
    try:
        eventually(lambda: _catches(process, signal.SIGHUP))
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "Reloaded: " in log.read_text())
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
