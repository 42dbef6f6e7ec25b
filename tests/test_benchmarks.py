"""The benchmarks run, and notice nothing wrong. What they measure is no test's business."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.conversations import write_trace

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
UNMEASURED = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
"""They run code that other tests cover, and would take twice as long."""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["decisions.py", "--rounds", "2", "--blocks", "500", "--sizes", "8", "100"], "remote_cache_aware"),
        (["loop_stalls.py", "--smoke"], "loop held, ms"),
        (["chaos_random.py", "--seeds", "2", "--first", "20"], "2 seeds in"),
        (["continuation.py", "12", "4", "50", "--smoke"], "12 whole and equal to an unbroken one, 0 different, 0"),
        (["models.py", "300", "8"], "at a wrong model"),
        (["startup.py", "--rounds", "1"], "start-up to first request served: "),
        (["memory.py", "--streams", "100", "--seconds", "1"], "100 streams at once, 0 errors"),
        (["compare.py", "--what", "stream", "--only", "fd-router", "--seconds", "1", "--rounds", "1"], "fd-router"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_benchmark_runs(command: list[str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        timeout=150,  # less than that of a test; none takes a tenth where nothing else runs
        check=False,
        env=UNMEASURED,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout
    assert "never answered" not in done.stdout


@pytest.mark.slow
def test_the_trace_benchmark_runs(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, requests=40, every_ms=400)
    engine = ["--instances", "2", "--prefill", "5000", "--speed", "20", "--max-output", "4", "--limit", "0"]
    command = ["trace_replay.py", "--trace", str(trace), "--policies", "cache_aware", "--simulate", *engine]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / command[0]), *command[1:], "--only", "fd-router"],
        capture_output=True,
        text=True,
        timeout=150,  # less than that of a test; none takes a tenth where nothing else runs
        check=False,
        env=UNMEASURED,
    )
    assert done.returncode == 0, done.stderr
    rows = {line.split("│")[1].strip(): line.split("│")[-3:-1] for line in done.stdout.splitlines() if "│" in line}
    assert rows.keys() == {"fd-router", "cache_aware, simulated"}
    assert {tuple(cell.strip() for cell in cells) for cells in rows.values()} == {("40", "0")}
