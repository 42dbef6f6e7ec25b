"""Millions of requests through one router: does its memory stay flat, and is nothing left open or counted?

``python benchmarks/soak.py [--requests 5000000] [--minutes 10]``, whichever is first. wrk in front, with
new connections every 10 s; nginx as two instances. Exits with 1 if memory grew by 2 % or more after the
warm-up (the first fifth), or anything was left.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from contenders import nginx_command
from processes import (
    FD_ROUTER,
    Program,
    answers,
    free_port,
    make_console,
    need_programs,
    post,
    wait_until,
    write_config,
)
from rich import box
from rich.table import Table

PATH = "/v1/chat/completions"
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
INSTANCE = """\
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{{"choices":[{{"message":{{"content":"ok"}}}}]}}'; }}
  }}"""
ROUND_SECS = 10
CONNECTIONS = 64
WARM_UP = 0.2
GROWTH = 0.02
SPARE_FILES = 20
SCRIPT = 'wrk.method = "POST"\nwrk.body = [[{body}]]\n'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5_000_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    need_programs("nginx", "wrk")
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="soak-") as name, ExitStack() as stack:
        directory = Path(name)
        instances, port = [free_port(), free_port()], free_port()
        body = "\n".join(INSTANCE.format(port=each) for each in instances)
        stack.enter_context(Program("instances", nginx_command(directory, "instances", body), directory))
        config = write_config(directory, port, instances)
        router = stack.enter_context(Program("router", [*FD_ROUTER, "--config_path", str(config)], directory))
        if not wait_until(lambda: answers(port, post(PATH, BODY)), 20):
            sys.exit("the router doesn't serve")
        files = metric(port, "process_open_fds")
        samples, errors, seconds = run(router, directory, port, arguments)
        wait_until(lambda: not left(port, files), 15)
        remains = left(port, files)
    console.print(as_table(samples, errors, seconds))
    growth = grown(samples)
    problems = remains + ([f"memory grew by {growth:.1%} after the warm-up"] if growth >= GROWTH else [])
    problems += [f"{errors} requests failed"] if errors else []
    console.print("\n".join(problems) or "nothing left open or counted")
    return 1 if problems else 0


Sample = tuple[float, int, int]
"""Requests served so far, resident bytes, bytes of log written."""


def run(router: Program, directory: Path, port: int, arguments: argparse.Namespace) -> tuple[list[Sample], int, float]:
    """Load the router in rounds; return a sample a round, the number of failures, and the seconds it took."""
    script = directory / "post.lua"
    script.write_text(SCRIPT.format(body=BODY.decode()))
    samples: list[Sample] = []
    errors, start, total, number = 0, time.monotonic(), 0, 0
    while total < arguments.requests and time.monotonic() - start < arguments.minutes * 60:
        number += 1
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_SECS}s", "-s", str(script)]
        with Program(f"wrk-{number}", [*command, f"http://127.0.0.1:{port}{PATH}"], directory) as wrk:
            said = wrk.result(ROUND_SECS + 30)
        total += int(re.findall(r"(\d+) requests in", said)[0])
        errors += sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
        errors += sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", said)))
        log = sum(path.stat().st_size for path in (directory / "logs").glob("*"))
        samples.append((total, router.resident_bytes(), log))
        for path in (directory / "logs").glob("*"):  # or the disk would be what is soaked
            path.open("r+b").truncate()
    return samples, errors, time.monotonic() - start


def grown(samples: list[Sample]) -> float:
    """Return by how much memory grew from the end of the warm-up to the end, as a share; medians of three rounds."""
    warm = samples[int(len(samples) * WARM_UP) :]
    if len(warm) < 4:
        return 0.0
    first, last = (sorted(each[1] for each in part)[1] for part in (warm[:3], warm[-3:]))
    return last / first - 1


def left(port: int, files: float) -> list[str]:
    """Return what is still counted, or open."""
    names = ("fd_router_instance_running_requests", "fd_router_instance_tokens")
    found = [f"{name} is {number:g}" for name in names if (number := metric(port, name))]
    # Kept connections to the instances are open for some seconds.
    if (opened := metric(port, "process_open_fds")) > files + SPARE_FILES:
        found.append(f"{opened - files:g} files more than before are open")
    return found


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def as_table(samples: list[Sample], errors: int, seconds: float) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption=f"{samples[-1][0]:,} requests in {seconds:.0f} s, {errors} failed")
    for column in ("requests", "resident memory", "log of the round"):
        table.add_column(column, justify="right")
    step = max(1, len(samples) // 12)
    for requests, resident, log in [*samples[:-1:step], samples[-1]]:
        table.add_row(f"{requests:,.0f}", f"{resident / 1e6:.1f} MB", f"{log / 1e6:.0f} MB")
    return table


if __name__ == "__main__":
    sys.exit(main())
