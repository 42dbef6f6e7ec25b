"""The simulator and a replay over HTTP, through the router to mock instances, tell the same."""

import json
import statistics
import subprocess
import sys

import pytest

from tests.support.conversations import write_trace
from tests.support.fleet import Fleet

# Where chance breaks a tie, the run that follows is another one. So many instances and requests make the mean TTFT
# differ by 3 % at most between seeds; and it is so long, 100 ms, that a busy machine's delays are small beside it.
INSTANCES = 8
REQUESTS = 600
EVERY_MS = 25
SEEDS = 5
ENGINE = {
    "prefill_tokens_per_sec": 10_000,  # just what the prompts would need without caches
    "decode_ms_per_token": 1,
    "decode_ms_per_running": 0,
    "cache_tokens": 400_000,
}


def run(*arguments):
    command = [sys.executable, "-m", "fd_router", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (result,) = json.loads(done.stdout)["results"]
    return result


@pytest.mark.slow
def test_simulator_and_replay_agree(tmp_path):
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, requests=REQUESTS, every_ms=EVERY_MS, growth=1)
    engine = [word for name, value in ENGINE.items() for word in (f"--{name.replace('_', '-')}", value)]
    with Fleet(INSTANCES, mock=ENGINE, config={"scheduler": {"policy": "cache_aware"}}) as fleet:
        replayed = run("replay", "--trace", trace, "--router", fleet.router.url, "--prompts", "ids")
    modelled = ("simulate", "--trace", trace, *engine, "--policy", "cache_aware", "--instances", INSTANCES)
    simulated = [run(*modelled, "--seed", seed) for seed in range(SEEDS)]
    assert (replayed["requests"], replayed["failures"]) == (REQUESTS, 0)
    assert len(replayed["work_tokens"]) == INSTANCES
    for figure in ("ttft_mean", "hit_rate"):
        expected = statistics.fmean(each[figure] for each in simulated)
        assert replayed[figure] == pytest.approx(expected, rel=0.15), figure
