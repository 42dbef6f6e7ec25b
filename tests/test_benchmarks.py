"""The benchmarks run, and notice nothing wrong. What they measure is no test's business."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
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
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout
    assert "never answered" not in done.stdout
