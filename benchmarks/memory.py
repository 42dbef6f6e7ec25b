"""Memory of one router with thousands of slow streams at once: KB a stream, above the idle router."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from processes import (
    FD_ROUTER,
    HERE,
    Program,
    allow_files,
    answers,
    free_port,
    make_console,
    post,
    wait_until,
    write_config,
)

INTERVAL_SECS = 1.0
"""Between two chunks of a stream."""

CHUNKS = 600
"""Of a stream: more than anybody waits for."""

LIKE_A_SHELL = ("sh", "-c", 'ulimit -Sn 1024; exec "$0" "$@"')
"""Before the router's command: it begins with the limit of open files that most shells begin with."""

BODY = b'{"model":"m","messages":[{"role":"user","content":"Go on."}]}'


def main() -> int:
    """Measure, print, and return 1 if a stream failed."""
    arguments = _arguments()
    allow_files(2 * arguments.streams + 500)
    with tempfile.TemporaryDirectory(prefix="fd-router-bench-") as name:
        return _measure(Path(name), arguments.streams, arguments.seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=5000, help="at once [5000]")
    parser.add_argument("--seconds", type=float, default=10.0, help="that all streams flow before the look [10]")
    return parser.parse_args()


def _measure(directory: Path, streams: int, seconds: float) -> int:
    ports = [free_port(), free_port()]
    instances = [Program(f"instance-{port}", _instance(port), directory) for port in ports]
    router_port = free_port()
    config = write_config(directory, router_port, ports)
    router = Program("router", [*LIKE_A_SHELL, *FD_ROUTER, "--config_path", str(config)], directory)
    try:
        request = post("/v1/chat/completions", BODY)
        if not wait_until(lambda: answers(router_port, request), 30):
            sys.exit(f"the router doesn't answer: {router.output.read_text()}")
        idle = router.resident_bytes()
        clients = Program("clients", _clients(router_port, streams, seconds), directory)
        with clients:
            wait_until(lambda: "counting" in clients.output.read_text(), 60 + streams / 100)
            full = router.resident_bytes()
            result = json.loads(clients.result(60 + seconds).splitlines()[-1])
            full = max(full, router.resident_bytes())
    finally:
        for program in (router, *instances):
            program.end()
    _show(streams, idle, full, result)
    return 1 if result["errors"] else 0


def _instance(port: int) -> list[str]:
    return [sys.executable, str(HERE / "sse_instance.py"), str(port), str(CHUNKS), str(INTERVAL_SECS)]


def _clients(port: int, streams: int, seconds: float) -> list[str]:
    return [sys.executable, str(HERE / "sse_clients.py"), str(port), str(streams), "3", str(seconds), "--once"]


def _show(streams: int, idle: int, full: int, result: dict[str, float]) -> None:
    mib = 1024 * 1024
    make_console().print(
        f"memory: {streams} streams at once, {result['errors']:.0f} errors, {result['chunks_per_sec']:.0f} chunks/s; "
        f"router idle {idle / mib:.1f} MiB, with streams {full / mib:.1f} MiB: "
        f"[bold]{(full - idle) / 1024 / streams:.1f} KB a stream[/]"
    )


if __name__ == "__main__":
    sys.exit(main())
