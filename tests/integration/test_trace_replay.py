"""The simulator and a replay over HTTP, through the router to mock instances, tell the same."""

import json
import statistics
import subprocess
import sys

import pytest

from tests.support.conversations import write_trace
from tests.support.fleet import Fleet

INSTANCES = 4
ENGINE = {
    "prefill_tokens_per_sec": 60_000,
    "decode_ms_per_token": 1,
    "decode_ms_per_running": 0,
    "cache_tokens": 400_000,
}
SPEED = "1.1"  # 6.5 s of requests, and more of them than could be served without caches


def run(*arguments):
    command = [sys.executable, "-m", "fd_router", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (result,) = json.loads(done.stdout)["results"]
    return result


@pytest.mark.slow
def test_simulator_and_replay_agree(tmp_path):
    trace = tmp_path / "trace.jsonl"
    write_trace(trace, requests=300, every_ms=20)
    engine = [word for name, value in ENGINE.items() for word in (f"--{name.replace('_', '-')}", value)]
    common = ("--trace", trace, "--speed", SPEED)
    with Fleet(INSTANCES, mock=ENGINE, config={"scheduler": {"policy": "cache_aware"}}) as fleet:
        replayed = run("replay", *common, "--router", fleet.router.url, "--prompts", "ids")
    # Where chance breaks a tie, the run that follows is another one: some seeds tell what is usual.
    simulated = [
        run("simulate", *common, *engine, "--policy", "cache_aware", "--instances", INSTANCES, "--seed", seed)
        for seed in range(3)
    ]
    assert (replayed["requests"], replayed["failures"]) == (300, 0)
    assert len(replayed["work_tokens"]) == INSTANCES
    for figure in ("ttft_mean", "hit_rate"):
        expected = statistics.fmean(each[figure] for each in simulated)
        assert replayed[figure] == pytest.approx(expected, rel=0.15), figure
