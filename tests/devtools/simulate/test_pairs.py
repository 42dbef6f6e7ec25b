"""Disaggregated fleets, simulated: worked examples, all policies, and what the command line takes."""

from __future__ import annotations

import json

import pytest

from fd_router.cli import run
from fd_router.config.loading import POLICIES, SchedulerConfig
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.simulate.pairs import PairFleet, PairSimulator, simulate_pairs
from fd_router.devtools.simulate.simulator import Fleet
from fd_router.devtools.traces.trace import TraceRequest
from tests.devtools.simulate.test_simulator import conversations

ENGINE = EngineSettings(prefill_tokens_per_sec=1000, decode_secs=0.01, cache_tokens=100_000)


def test_a_prompt_is_prefilled_moved_and_decoded():
    requests = [TraceRequest(1, 0, 1000, 11, [1, 2], 512), TraceRequest(2, 5.0, 1000, 1, [1, 2], 512)]
    pairs = PairFleet(1, 1, transfer_secs=0.1, transfer_secs_per_token=0.0002)
    first, second = simulate_pairs(requests, Fleet(2, ENGINE), pairs, "random+random", SchedulerConfig())
    assert first.ttft == pytest.approx(1.3)  # a second of prefill, 0.1 s and 1,000 × 0.2 ms on the way
    assert first.seconds == pytest.approx(1.4)  # then ten steps of 10 ms
    assert (second.ttft, second.cached_tokens) == (pytest.approx(0.301), 999)


@pytest.mark.parametrize("decode", ["request_num", "ttft_aware", "fd_remote_metrics_score"])
@pytest.mark.parametrize("prefill", POLICIES)
def test_every_pair_of_policies_serves_all_and_gives_all_back(prefill, decode):
    simulator = PairSimulator(Fleet(5, ENGINE), PairFleet(3, 2), f"{prefill}+{decode}", SchedulerConfig(), 3)
    requests = conversations(80)
    outcomes = simulator.run(requests)
    assert [each.at for each in outcomes] == [each.at for each in requests]
    assert all(each.ttft > 0 and each.seconds >= each.ttft for each in outcomes)
    (router,) = simulator._routers
    assert all((instance.own_running, instance.own_tokens) == (0, 0) for instance in router.instances)
    assert {each.instance for each in outcomes} <= {instance.key for instance in router.instances[:3]}


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    line = '{"timestamp": %d, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'
    path.write_text("".join(line % (n * 100) for n in range(20)))
    return str(path)


def test_ratios_are_compared(trace, capsys):
    asked = ["simulate", "--trace", trace, "--splitwise", "--instances", "2+1,1+2", "--json"]
    assert run([*asked, "--policy", "ttft_aware,cache_aware:hit-ratio-weight=2+process_tokens"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [each["name"] for each in results] == [
        "ttft_aware+request_num 2+1", "ttft_aware+request_num 1+2",
        "cache_aware:hit-ratio-weight=2+process_tokens 2+1", "cache_aware:hit-ratio-weight=2+process_tokens 1+2",
    ]  # fmt: skip
    assert {(each["requests"], each["failures"]) for each in results} == {(20, 0)}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--splitwise", "--instances", "8"], "--instances 8: with --splitwise, give prefill and decode ones, as 6+2"),
        (["--instances", "6+2"], "--instances 6+2: prefill and decode instances need --splitwise"),
        (["--splitwise", "--instances", "6+2", "--routers", "2"], "--routers"),
        (["--splitwise", "--instances", "6+2", "--policy", "random+nothing"], "'nothing' is not available"),
        (["--instances", "0"], "--instances"),
    ],
)
def test_what_does_not_fit_together_is_told(trace, options, told, capsys):
    assert run(["simulate", "--trace", trace, "--policy", "random", *options]) in {1, 2}
    assert told in capsys.readouterr().err
