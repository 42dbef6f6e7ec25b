"""The systemd example: its units as systemd reads them, and the router started as they start it."""

from __future__ import annotations

import configparser
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.mock_process import SOURCES, call

EXAMPLE = Path(__file__).parents[2] / "examples" / "systemd"
UNITS = ("fd-router.socket", "fd-router@.service")
PROGRAM = "/opt/fd-router/bin/fd-router"
HANDED_OVER = (
    "import os, sys\n"
    "number = int(sys.argv.pop(1))\n"
    "os.dup2(number, 3) if number != 3 else os.set_inheritable(3, True)\n"
    "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string((EXAMPLE / name).read_text())
    return parsed


def configuration() -> dict[str, dict[str, object]]:
    read: dict[str, dict[str, object]] = yaml.safe_load((EXAMPLE / "config.yaml").read_text())
    return read


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        (tmp_path / name.replace("@", "@a")).write_text((EXAMPLE / name).read_text().replace(PROGRAM, sys.executable))
    names = [str(tmp_path / name.replace("@", "@a")) for name in UNITS]
    command = ["systemd-analyze", "verify", "--man=no", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "fd-router" in line]) == (0, [])


def test_the_units_and_the_configuration_fit_together() -> None:
    service, config = unit(UNITS[1])["Service"], configuration()
    assert service["ExecStart"] == f"{PROGRAM} --config_path /etc/fd-router/config.yaml"
    assert int(service["TimeoutStopSec"]) > int(str(config["server"]["drain-timeout-secs"]))
    assert str(config["manager"]["state-path"]).startswith(f"/var/lib/{service['StateDirectory']}/")
    assert str(config["log"]["path"]).startswith(f"/var/log/{service['LogsDirectory']}/")
    listen = [line for line in (EXAMPLE / UNITS[0]).read_text().splitlines() if line.startswith("ListenStream=")]
    assert all(line.endswith(f":{config['server']['port']}") for line in listen)
    assert len(listen) == 2


def test_the_page_says_what_there_is() -> None:
    page = (EXAMPLE / "README.md").read_text()
    for name in (*UNITS, "config.yaml"):
        assert f"examples/systemd/{name}" in page
    service = unit(UNITS[1])["Service"]
    assert service["EnvironmentFile"].removeprefix("-") in page


def test_the_router_runs_on_a_socket_that_is_handed_over_and_tells_when_it_is_ready(tmp_path: Path) -> None:
    config = (EXAMPLE / "config.yaml").read_text().replace("/var/lib/", f"{tmp_path}/lib/")
    (tmp_path / "config.yaml").write_text(config.replace("/var/log/", f"{tmp_path}/log/"))
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(60)
        process = start(tmp_path, port, str(tmp_path / "notify"))
        try:
            assert notify.recv(100) == b"READY=1"
            assert call(port.getsockname()[1], "GET", "/health")[0] == 200
            process.send_signal(signal.SIGTERM)
            assert notify.recv(100) == b"STOPPING=1"
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
    assert "Starting server" in (tmp_path / "log" / "fd-router" / "router.log").read_text()
    assert (tmp_path / "lib" / "fd-router" / "state.json").exists()


def start(folder: Path, port: socket.socket, notify: str) -> subprocess.Popen[bytes]:
    """Start the router as ``ExecStart`` does, with ``port`` as its descriptor 3."""
    command = [sys.executable, "-m", "fd_router", "--config_path", str(folder / "config.yaml")]
    number = port.fileno()
    return subprocess.Popen(
        [sys.executable, "-c", HANDED_OVER, str(number), *command],
        env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": notify},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(number,), cwd=folder,
    )  # fmt: skip
