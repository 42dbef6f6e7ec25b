"""The demo as users start it: a process with processes of its own."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from fd_router.devtools.demo.client import DemoClient, FailedError
from fd_router.devtools.mock.http_server import MockServer
from fd_router.http.client import HttpClient
from tests.support.mock_process import SOURCES, MockProcess, call
from tests.support.ports import free_port


def start_demo(tmp_path, *arguments):
    """Start it, its coverage unmeasured: it starts five processes, each of which would take a second longer."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment |= {"PYTHONPATH": str(SOURCES), "COLUMNS": "100", "TMPDIR": str(tmp_path)}
    return subprocess.Popen(
        [sys.executable, "-m", "fd_router", "demo", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_both_demos_show_everything_and_lose_nothing(tmp_path):
    """At the same time, since they wait more than they work."""
    with start_demo(tmp_path) as mixed, start_demo(tmp_path, "--splitwise") as pairs:
        try:
            outputs = [demo.communicate(timeout=120)[0] for demo in (mixed, pairs)]
        finally:
            mixed.kill()
            pairs.kill()
    assert [mixed.returncode, pairs.returncode] == [0, 0], outputs
    assert list(tmp_path.iterdir()) == []
    _check_mixed(outputs[0])
    _check_pairs(outputs[1])


def _check_mixed(output):
    for name in ("mock-1", "mock-2", "mock-3"):
        assert output.count(name) >= 3
    assert "every stream gets its turn." in " ".join(output.split())
    assert "60 of 60 were answered" in output
    assert "nothing was lost" in output


def _check_pairs(output):
    assert re.search(r"prefill-[12] \+ decode-[12]", output)
    for victim in ("prefill-2", "decode-2"):
        assert f"{victim} is killed" in output
    assert output.count("60 of 60 were answered") == 2
    assert "nothing was lost" in output


@pytest.mark.slow
def test_stays_up_until_told_and_leaves_nothing_behind(tmp_path):
    port = free_port()
    with start_demo(tmp_path, "--keep", "--instances", "2", "--port", str(port)) as demo:
        try:
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if line.startswith("tail -f "):
                    break
            body = {"messages": [{"role": "user", "content": "hello"}]}
            assert call(port, "POST", "/v1/chat/completions", body)[0] == 200
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 130, lines
        finally:
            demo.kill()
    with pytest.raises(ConnectionRefusedError):
        call(port, "GET", "/health")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_in_the_middle_it_leaves_nothing_behind(tmp_path):
    port = free_port()
    with start_demo(tmp_path, "--port", str(port)) as demo:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    call(port, "GET", "/health")
                    break
                except OSError:
                    time.sleep(0.02)
            demo.send_signal(signal.SIGTERM)
            output, _ = demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert demo.returncode == 130, output
    assert "Traceback" not in output
    with pytest.raises(ConnectionRefusedError):
        call(port, "GET", "/health")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_somebody_has_is_one_clear_line(tmp_path):
    """Another router that answers there must not be shown, nor get the demo's instances."""
    with MockProcess() as other:
        before = len(other.received())
        with start_demo(tmp_path, "--port", str(other.port)) as demo:
            try:
                output, _ = demo.communicate(timeout=60)
            finally:
                demo.kill()
        assert demo.returncode == 1, output
        assert output.endswith(f"error: port {other.port}: address already in use; choose another --port\n")
        assert "Traceback" not in output
        assert len(other.received()) == before, "it was taken for the demo's router"


class Scripted:
    """A router that answers everything with one status and body."""

    def __init__(self, status, body):
        self.server = MockServer(lambda call, _: call.respond(status, body), lambda call: None)

    async def __aenter__(self):
        await self.server.open("127.0.0.1", 0)
        return self.server.port

    async def __aexit__(self, *_):
        self.server.close()


async def test_a_bad_answer_counts_as_failed():
    async with Scripted(502, b"{}") as port:
        with pytest.raises(FailedError, match="502"):
            await DemoClient(HttpClient(), port).ask("x", 1)
        with pytest.raises(FailedError, match="502"):
            [text async for text in DemoClient(HttpClient(), port).stream("x", 1)]
    with pytest.raises(FailedError):
        await DemoClient(HttpClient(), port).ask("x", 1)


async def test_a_stream_without_its_end_counts_as_failed():
    async with Scripted(200, b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n') as port:
        texts = DemoClient(HttpClient(), port).stream("x", 1)
        assert await anext(texts) == "a"
        with pytest.raises(FailedError, match="early"):
            await anext(texts)


async def test_counters_are_added_up():
    text = b'# TYPE a_retries_total counter\na_retries_total{x="1"} 2.0\na_retries_total{x="2"} 3.0\n'
    text += b"a_retries_created 9\nb_total 7\n"
    async with Scripted(200, text) as port:
        assert await DemoClient(HttpClient(), port).metric("retries") == 5
