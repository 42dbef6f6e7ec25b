"""Smoke test of the executable: it runs without Python, starts soon, serves a request through a mock, and ends.

``python packaging/smoke.py dist/fd-router``. Bounded in time; every process is ended by its own handle.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NO_PYTHON = {"PATH": "/nonexistent", "LANG": "C.UTF-8"}
"""An environment in which no interpreter is found."""

LIMIT_SECS = 20.0


def main() -> int:
    """Run all steps; an assertion says what failed."""
    program = str(Path(sys.argv[1]).resolve())
    command = [program, "--version"]
    version = subprocess.run(command, check=True, env=NO_PYTHON, capture_output=True, text=True, timeout=LIMIT_SECS)
    assert "fd-router" in version.stdout, version
    with tempfile.TemporaryDirectory() as folder:
        port, mock_port = _free_port(), _free_port()
        mock = [program, "mock", "--port", str(mock_port), "--prefill-tokens-per-sec", "1000000"]
        register = Path(folder, "register.yaml")
        register.write_text(f"instances:\n  - {{role: mixed, host_ip: 127.0.0.1, port: {mock_port}}}\n")
        config = Path(folder, "config.yaml")
        config.write_text(f"manager: {{register-path: {register}}}\nscheduler: {{policy: cache_aware}}\n")
        router = [program, "--port", str(port), "--config_path", str(config)]
        with _running(mock, folder) as mocked, _started(router, folder, after=mock_port) as routed:
            try:
                seconds = _serves(port)
                assert b"preact" in _get(port, "/dashboard"), "the dashboard's page is not whole"
                print(f"first request served {seconds:.2f} s after the start")
            finally:
                for process in (routed, mocked):
                    process.terminate()
                    process.wait(LIMIT_SECS)
        assert routed.returncode == 0, routed.returncode
    print(version.stdout.strip())
    return 0


def _running(command: list[str], folder: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=NO_PYTHON, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def _started(command: list[str], folder: str, after: int) -> subprocess.Popen[bytes]:
    """Start a program when the port ``after`` answers: else what is measured is when the router probes again."""
    begun = time.monotonic()
    while time.monotonic() < begun + LIMIT_SECS:
        try:
            _get(after, "/health")
            break
        except OSError:
            time.sleep(0.02)
    return _running(command, folder)


def _serves(port: int) -> float:
    """Ask until an answer with status 200 comes; return the seconds that took."""
    begun = time.monotonic()
    body = json.dumps({"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]})
    while time.monotonic() < begun + LIMIT_SECS:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            if connection.getresponse().status == 200:
                return time.monotonic() - begun
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise AssertionError("no request was served")


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
