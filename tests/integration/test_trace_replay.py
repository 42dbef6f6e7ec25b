"""The simulator and a replay over HTTP, through the router to mock instances, tell the same."""

import json
import os
import statistics
import subprocess
import sys

import pytest

from tests.support.conversations import write_trace
from tests.support.fleet import Fleet

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

# Where chance breaks a tie, the run that follows is another one. So many instances and requests make the mean TTFT
# differ by 3 % at most between seeds. It is measured where the engines are: what a busy machine puts between them and
# the client isn't in it. Requests that a busy machine sends late come in bunches, and wait for each other there.
INSTANCES = 8
REQUESTS = 600
EVERY_MS = 25
SEEDS = 5
PUNCTUAL_SECS = 0.1  # the replay calls it late from here on
ENGINE = {
    "prefill_tokens_per_sec": 10_000,  # just what the prompts would need without caches
    "decode_ms_per_token": 1,
    "decode_ms_per_running": 0,
    "cache_tokens": 400_000,
}


def start(*arguments):
    """Start a command, unmeasured: coverage makes it slower than what it models."""
    command = [sys.executable, "-m", "fd_router", *map(str, arguments), "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def result_of(process):
    with process:
        try:
            said, complaint = process.communicate(timeout=100)
        finally:
            process.kill()
    complaints = [line for line in complaint.splitlines() if "this machine is too slow" not in line]
    assert (process.returncode, complaints) == (0, [])
    return json.loads(said)


@pytest.mark.slow
def test_simulator_and_replay_agree(tmp_path):
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, requests=REQUESTS, every_ms=EVERY_MS, growth=1)
    with Fleet(INSTANCES, mock=ENGINE, config={"scheduler": {"policy": "cache_aware"}}) as fleet:
        replayed = result_of(start("replay", "--trace", trace, "--router", fleet.url, "--prompts", "ids"))
        states = [mock.state() for mock in fleet.mocks]
    engine = [word for name, value in ENGINE.items() for word in (f"--{name.replace('_', '-')}", value)]
    modelled = ("simulate", "--trace", trace, *engine, "--policy", "cache_aware", "--instances", INSTANCES)
    runs = [result_of(each) for each in [start(*modelled, "--seed", seed) for seed in range(SEEDS)]]
    (result,) = replayed["results"]
    assert (result["requests"], result["failures"]) == (REQUESTS, 0)
    assert len(result["work_tokens"]) == INSTANCES
    assert sum(state["first_tokens"] for state in states) == REQUESTS

    def expected(figure):
        return statistics.fmean(run["results"][0][figure] for run in runs)

    assert result["hit_rate"] == pytest.approx(expected("hit_rate"), rel=0.15)
    ttft_mean = sum(state["ttft_secs"] for state in states) / REQUESTS
    assert ttft_mean > 0.85 * expected("ttft_mean")
    if replayed["conditions"]["late_secs"] < PUNCTUAL_SECS:
        assert ttft_mean < 1.15 * expected("ttft_mean")
