"""Tuning: weights are searched by what requests would have had, and a gain that isn't sure is said not to be."""

from __future__ import annotations

import math
import random
import sys

import pytest
import yaml

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.simulate.simulator import Fleet
from fd_router.devtools.simulate.tune import yaml_of
from fd_router.devtools.simulate.tuning import SPACES, Range, Tuned, tune
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.errors import ConfigError

FLEET = Fleet(3, EngineSettings(prefill_tokens_per_sec=4000, cache_tokens=12_000))


def tenants(number=160, rate=6.0):
    """Tenants with long prompts in common, so that it matters much where each goes."""
    rng, at, requests = random.Random(5), 0.0, []
    for turn in range(number):
        at += rng.expovariate(rate)
        tenant = rng.randrange(8)
        ids = [tenant * 100 + block for block in range(20)] + [10_000 + turn]
        requests.append(TraceRequest(turn + 1, at, len(ids) * 128, 5, ids, 128))
    return requests


def test_weights_that_suit_a_trace_are_found():
    pytest.importorskip("cma")
    heard = []
    options = SchedulerConfig(cache_block_size=64)
    tuned = tune(tenants(), FLEET, "cache_aware", options, runs=30, on_run=heard.append)
    assert heard[-1] >= 30
    assert tuned.before == {name: getattr(options, name) for name in SPACES["cache_aware"]}
    assert tuned.mean < 0.9
    assert len(tuned.ratios) == 6
    found = yaml.safe_load(yaml_of(tuned))["scheduler"]
    assert found.pop("policy") == "cache_aware"
    assert {name.replace("-", "_"): value for name, value in found.items()} == pytest.approx(dict(tuned.after))


def test_a_gain_that_may_be_chance_is_said_to_be_none():
    def of(*ratios):
        names = [f"{half} half, seed {seed}" for half in ("first", "second") for seed in range(3)]
        return Tuned("cache_aware", {"a": 1}, {"a": 2}, list(zip(names, ratios, strict=True)))

    sure, unsure, unseen = (
        of(0.5, 0.52, 0.5, 0.55, 0.5, 0.5),
        of(0.2, 1.5, 0.9, 0.9, 0.9, 0.9),
        of(0.1, 0.1, 0.1, 1.01, 0.1, 0.1),
    )
    assert sure.is_gain
    assert "NO GAIN" not in yaml_of(sure)
    assert math.prod(sure.interval) == pytest.approx(sure.mean**2)
    for each in (unsure, unseen):
        assert not each.is_gain
        assert "NO GAIN" in yaml_of(each)


def test_a_range_has_its_values_at_its_places():
    one = Range(1.0, 5.0)
    assert (one.value(0.0), one.value(1.0), one.place(99.0), one.place(-1.0)) == (1.0, 5.0, 1.0, 0.0)
    assert one.value(one.place(3.0)) == pytest.approx(3.0)
    assert Range(0, 100, is_whole=True).value(0.3) == 9


def test_what_can_not_be_tuned_is_told(monkeypatch):
    with pytest.raises(ConfigError, match="random: its weights aren't known; choose one of: ttft_aware"):
        tune(tenants(), FLEET, "random", SchedulerConfig(), runs=10)
    with pytest.raises(ConfigError, match="the trace has 19 requests"):
        tune(tenants(19), FLEET, "cache_aware", SchedulerConfig(), runs=10)
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(ConfigError, match=r"pip install 'cma>=4.0'"):
        tune(tenants(40), FLEET, "cache_aware", SchedulerConfig(), runs=10)
