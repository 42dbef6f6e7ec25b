"""Time from the start of the router's process to the first request served."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from processes import FD_ROUTER, HERE, Program, answers, free_port, make_console, post, wait_until, write_config

LIMIT_SECS = 20.0
BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="starts to take the median of [5]")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="fd-router-bench-") as name:
        directory, port = Path(name), free_port()
        instance = Program("instance", [sys.executable, str(HERE / "sse_instance.py"), str(port), "1", "0"], directory)
        with instance:
            if not wait_until(lambda: answers(port, post("/", BODY)), LIMIT_SECS):
                sys.exit(f"the instance doesn't answer: {instance.output.read_text()}")
            seconds = [_start(directory, port) for _ in range(rounds)]
    make_console().print(
        f"start-up to first request served: [bold]{statistics.median(seconds):.2f} s[/] "
        f"(median of {rounds}, {min(seconds):.2f} to {max(seconds):.2f})"
    )
    return 0


def _start(directory: Path, instance: int) -> float:
    port = free_port()
    config = write_config(directory, port, [instance])
    request = post("/v1/chat/completions", BODY)
    began = time.monotonic()
    with Program("router", [*FD_ROUTER, "--config_path", str(config)], directory) as router:
        if not wait_until(lambda: answers(port, request), LIMIT_SECS, every=0.005):
            sys.exit(f"the router doesn't answer: {router.output.read_text()}")
        return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
