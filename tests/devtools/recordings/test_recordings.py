"""Recordings: what is written is all that a decision depends on, and is nothing that anybody said."""

from __future__ import annotations

import json
import random

import pytest

from fd_router.config.loading import POLICIES, SchedulerConfig
from fd_router.devtools.recordings.any_trace import read_any_trace
from fd_router.devtools.recordings.arrivals import arrivals_of
from fd_router.devtools.recordings.calibration import measured
from fd_router.devtools.recordings.reading import read_recording
from fd_router.devtools.recordings.recomputing import recompute
from fd_router.devtools.simulate.simulator import Fleet
from fd_router.devtools.traces.trace import TraceError, TraceRequest
from tests.support.recorded_run import ENGINE, recorded_run


def conversations(number=200, rate=4.0, seed=1):
    """Requests of sessions that go on: each turn's prompt begins with the one before."""
    rng, requests, sessions, fresh, at = random.Random(seed), [], [], 0, 0.0
    for turn in range(number):
        at += rng.expovariate(rate)
        ids = rng.choice(sessions) if turn > 4 and rng.random() < 0.7 else sessions.append([0]) or sessions[-1]
        added = rng.randrange(1, 20)
        ids.extend(range(fresh + 1, fresh + 1 + added))
        fresh += added
        requests.append(TraceRequest(turn + 1, at, len(ids) * 64, rng.randrange(2, 50), list(ids), 64))
    return requests


@pytest.mark.parametrize("policy", POLICIES)
def test_every_decision_is_recomputed(policy, tmp_path):
    path = tmp_path / "recording.jsonl"
    recorded_run(path, conversations(), policy)
    agreement = recompute(read_recording(str(path)), SchedulerConfig())
    assert (agreement.decisions, agreement.same) == (200, 200)


def test_a_large_fleet_is_recomputed_by_its_columns(tmp_path):
    path = tmp_path / "recording.jsonl"
    recorded_run(path, conversations(), "ttft_aware", instances=80)
    assert recompute(read_recording(str(path)), SchedulerConfig()).share == 1.0


def test_other_weights_decide_otherwise(tmp_path):
    path = tmp_path / "recording.jsonl"
    recorded_run(path, conversations(rate=20.0), "cache_aware", options=SchedulerConfig(hit_ratio_weight=5.0))
    text = path.read_text()
    assert recompute(read_recording(str(path)), SchedulerConfig()).share == 1.0  # the options are in it
    path.write_text(text.replace('"hit_ratio_weight":5.0', '"hit_ratio_weight":0.0'))
    assert recompute(read_recording(str(path)), SchedulerConfig()).share < 1.0


def test_it_is_a_trace_of_the_same_requests(tmp_path):
    path, requests = tmp_path / "recording.jsonl", conversations()
    outcomes = recorded_run(path, requests, "ttft_aware")
    read = read_any_trace(str(path))
    assert [each.at for each in read] == pytest.approx([each.at - requests[0].at for each in requests])
    assert [each.input_tokens for each in read] == [each.input_tokens for each in requests]
    assert [each.output_tokens for each in read] == [each.output_tokens for each in requests]
    (tokens,) = {each.block_tokens for each in read}
    for one, other in ((0, 9), (5, 60), (17, 150)):  # equal beginnings are as long, in blocks of 16 tokens
        shared = common(requests[one].hash_ids, requests[other].hash_ids) * 64
        assert common(read[one].hash_ids, read[other].hash_ids) == pytest.approx(shared / tokens, abs=1)
    arrivals = arrivals_of(read_recording(str(path)))
    assert [each.ttft for each in arrivals.outcomes] == pytest.approx([each.ttft for each in outcomes])


def common(one, other):
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_its_fleet_is_measured(tmp_path):
    path = tmp_path / "recording.jsonl"
    recorded_run(path, conversations(), "request_num")
    recording = read_recording(str(path))
    fleet = measured(recording, recording.served(), Fleet(1, ENGINE))
    assert fleet.instances == 4
    assert fleet.engine.prefill_tokens_per_sec == pytest.approx(ENGINE.prefill_tokens_per_sec, rel=0.05)
    assert fleet.engine.decode_secs == pytest.approx(ENGINE.decode_secs, rel=0.1)


def test_nothing_but_numbers_is_written(tmp_path):
    path = tmp_path / "recording.jsonl"
    recorded_run(path, conversations(20), "cache_aware")
    words = set()

    def look(value, key=""):
        if isinstance(value, dict):
            for name, each in value.items():
                look(each, name)
        elif isinstance(value, list):
            for each in value:
                look(each, key)
        elif isinstance(value, str):
            words.add((key, value))

    for line in path.read_text().splitlines():
        look(json.loads(line))
    assert {key for key, _ in words} == {"event", "role", "name"}


def test_a_line_cut_off_at_the_end_is_left_out_and_a_broken_one_told(tmp_path):
    path = tmp_path / "recording.jsonl"
    recorded_run(path, conversations(20), "random")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b'"event":"ended"') + 20])
    assert len(read_recording(str(path)).served()) == 19
    path.write_bytes(whole.replace(b'"event":"first"', b'"event":"fist"', 1))
    with pytest.raises(TraceError, match="no line of a recording may be changed"):
        read_recording(str(path))
    path.write_bytes(whole.replace(b'"version":1', b'"version":7', 1))
    with pytest.raises(TraceError, match="version 7"):
        read_recording(str(path))
