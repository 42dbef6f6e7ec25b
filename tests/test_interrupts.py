"""Ctrl-C ends every sub-command with 130, and no traceback."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fd_router.devtools.mock.http_server import MockServer
from tests.support.fleet import eventually
from tests.support.mock_process import SOURCES, MockProcess
from tests.support.waiting import until

LINE = '{"timestamp": %d, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "fd_router", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def open_files(process):
    links = Path(f"/proc/{process.pid}/fd")
    found = []
    for link in links.iterdir():
        with contextlib.suppress(OSError):  # it may have been closed meanwhile
            found.append(str(link.readlink()))
    return found


def ended_by(process, number):
    process.send_signal(number)
    try:
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "Traceback" not in output
    return process.returncode, output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_mock_instance(number, code):
    with MockProcess() as mock:
        mock.process.send_signal(number)
        assert mock.process.wait(30) == code
        assert "Traceback" not in mock.output


async def test_a_replay_shows_what_there_is(tmp_path):
    calls = []
    server = MockServer(lambda call, _: calls.append(call), lambda call: None)  # which never answers
    await server.open("127.0.0.1", 0)
    trace = tmp_path / "trace.jsonl"
    trace.write_text(LINE % 0 + LINE % 3_600_000)
    with start("replay", "--trace", str(trace), "--router", f"127.0.0.1:{server.port}") as process:
        await until(lambda: calls, 30)
        code, output = ended_by(process, signal.SIGINT)
    server.close()
    assert code == 130
    assert "1 of 2 requests" in output
    assert "1 × interrupted" in output


def test_a_simulation(tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(LINE % n for n in range(200_000)))
    with start("simulate", "--trace", str(trace), "--policy", ",".join(["ttft_aware"] * 50)) as process:
        eventually(lambda: str(trace) in open_files(process), 30)
        assert ended_by(process, signal.SIGINT)[0] == 130


def test_a_key_that_is_typed():
    with start("hash-key") as process:
        eventually(lambda: Path(f"/proc/{process.pid}/syscall").read_text().startswith("0 0x0 "), 30)  # read(0, …)
        assert ended_by(process, signal.SIGINT)[0] == 130
