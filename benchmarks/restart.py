"""Restarts of a router under load: each new one takes the port over (``server.reuse-port``), then the old one drains.

``python benchmarks/restart.py [restarts [connections]]``, with wrk. Half of the connections are kept, half are new for
each request. Exits with 1 if a request was refused, reset, or answered with anything but 200.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.fleet import QUICK, Fleet, eventually  # noqa: E402
from tests.support.mock_process import RouterProcess  # noqa: E402

PATH = "/v1/chat/completions"
SHARED = {"server": {"reuse-port": True}, "log": {"output": "file"}}
SECONDS_A_RESTART = 3.0
LUA = """\
wrk.method = "POST"
wrk.body = '{"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}'
wrk.headers["content-type"] = "application/json"
"""
ONCE = 'wrk.headers["connection"] = "close"\n'
NUMBERS = {
    "requests": r"(\d+) requests in",
    "not 200": r"Non-2xx or 3xx responses: (\d+)",
    "refused": r"Socket errors: connect (\d+)",
    "reset": r"Socket errors: .* read (\d+)",
    "timed out": r"Socket errors: .* timeout (\d+)",
}


def main(arguments: list[str]) -> int:
    restarts, connections = (int(x) for x in (*arguments, *("5", "32")[len(arguments) :]))
    with tempfile.TemporaryDirectory() as directory, Fleet(2, mock=QUICK, config=SHARED) as fleet:
        seconds = int(SECONDS_A_RESTART * restarts) + 3
        loads = [
            start_load(Path(directory) / f"{kind}.lua", LUA + more, fleet.url, connections // 2, seconds)
            for kind, more in (("kept", ""), ("new", ONCE))
        ]
        codes = restart(fleet, restarts)
        results = [load.communicate(timeout=seconds + 30)[0] for load in loads]
    counts = [{name: found(pattern, text) for name, pattern in NUMBERS.items()} for text in results]
    table = Table(box=box.SIMPLE)
    for heading in ("", "kept connections", "a connection each"):
        table.add_column(heading, justify="right" if heading else "left")
    for name in NUMBERS:
        table.add_row(name, *(f"{count[name]:,}" for count in counts))
    console = Console(highlight=False)
    console.print(f"{restarts} restarts under load, exit codes of the old routers: {codes}", table)
    lost = sum(number for count in counts for name, number in count.items() if name != "requests")
    return 1 if lost or any(codes) else 0


def start_load(script: Path, lua: str, url: str, connections: int, seconds: int) -> subprocess.Popen[str]:
    script.write_text(lua)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url + PATH]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def restart(fleet: Fleet, times: int) -> list[int]:
    """Replace the router ``times`` times; return the exit codes of those that were replaced."""
    instances = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port} for mock in fleet.mocks]
    current, codes = fleet.router, []
    for _ in range(times):
        begun = time.monotonic()
        successor = fleet.add(RouterProcess(SHARED, port=fleet.port, instances=instances))
        eventually(lambda one=successor: "Successfully registered instance" in one.log)
        codes.append(current.stop())
        current = successor
        time.sleep(max(0.0, begun + SECONDS_A_RESTART - time.monotonic()))
    fleet.router = current
    return codes


def found(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
