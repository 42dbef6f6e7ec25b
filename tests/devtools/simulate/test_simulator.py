import random

import pytest

from fd_router.config.loading import POLICIES, SchedulerConfig
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.simulate.simulator import Fleet, Routers, Simulator, simulate
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.errors import ConfigError

ENGINE = EngineSettings(prefill_tokens_per_sec=1000, decode_secs=0.01, cache_tokens=100_000)


def conversations(number=120, seed=1):
    """Requests of sessions that go on: each turn's prompt begins with the one before."""
    rng, requests, sessions, fresh = random.Random(seed), [], [], 0
    for turn in range(number):
        if sessions and rng.random() < 0.7:
            ids = rng.choice(sessions)
        else:
            ids = [0]
            sessions.append(ids)
        added = rng.randrange(1, 4)
        ids.extend(range(fresh + 1, fresh + 1 + added))
        fresh += added
        tokens = len(ids) * 512 - rng.randrange(512)
        requests.append(TraceRequest(turn + 1, turn * 0.5, tokens, rng.randrange(1, 50), list(ids), 512))
    return requests


def test_one_instance_serves_in_turn():
    requests = [TraceRequest(1, 0, 1000, 1, [1, 2], 512), TraceRequest(2, 0.5, 1000, 11, [1, 2], 512)]
    first, second = simulate(requests, Fleet(1, ENGINE), "random", SchedulerConfig()).outcomes
    assert (first.ttft, first.seconds, first.cached_tokens) == (1.0, 1.0, 0)
    # It waits for 0.5 s; then all but the last token is cached; then ten steps of 10 ms.
    assert second.ttft == pytest.approx(0.501)
    assert second.seconds == pytest.approx(0.601)
    assert second.cached_tokens == 999


@pytest.mark.parametrize("routers", [Routers(), Routers(3, 0.02)], ids=["one router", "three routers"])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_serves_all_and_gives_all_back(policy, routers):
    simulator = Simulator(Fleet(4, ENGINE), policy, SchedulerConfig(), 3, routers)
    requests = conversations()
    heard = []
    outcomes = simulator.run(requests, heard.append)
    assert [each.at for each in outcomes] == [each.at for each in requests]
    assert all(each.ttft > 0 and each.seconds >= each.ttft for each in outcomes)
    assert heard[-1] == len(requests)
    instances = [instance for router in simulator._routers for instance in router.instances]
    assert all((instance.own_running, instance.own_tokens) == (0, 0) for instance in instances)
    for server in simulator._servers:
        assert (server.engine.running, server.engine.waiting) == (0, 0)


@pytest.mark.parametrize("policy", ["random", "cache_aware"])
def test_the_seed_decides(policy):
    runs = [simulate(conversations(), Fleet(4, ENGINE), policy, SchedulerConfig(), seed=seed) for seed in (1, 1, 2)]
    assert runs[0].outcomes == runs[1].outcomes
    assert runs[0].outcomes != runs[2].outcomes


def test_cache_aware_finds_caches_where_random_does_not():
    weights = SchedulerConfig(hit_ratio_weight=4, balance_abs_threshold=100)
    aware, blind = (simulate(conversations(), Fleet(4, ENGINE), name, weights) for name in ("cache_aware", "random"))
    assert aware.summary().hit_rate > blind.summary().hit_rate + 0.2


def test_several_routers_that_share_are_nearly_as_good_as_one():
    requests = conversations(400)
    runs = [Routers(), Routers(4, 0.02), Routers(4, 0.0)]
    one, shared, apart = (
        simulate(requests, Fleet(4, ENGINE), "ttft_aware", SchedulerConfig(), routers=routers).summary()
        for routers in runs
    )
    assert shared.ttft_mean < 1.05 * one.ttft_mean
    assert shared.ttft_mean < apart.ttft_mean


def test_the_index_follows_the_clock_of_the_simulation():
    options = SchedulerConfig(eviction_duration_mins=1, eviction_interval_secs=1)
    simulator = Simulator(Fleet(2, ENGINE), "cache_aware", options)
    simulator.run([TraceRequest(1, 0, 5000, 1, [1], 512), TraceRequest(2, 100, 1, 1, [2], 512)])
    assert simulator._routers[0].index.blocks == 0


def test_an_unknown_policy_is_refused():
    with pytest.raises(ConfigError, match="'nonsense' is not available"):
        simulate([], Fleet(1, ENGINE), "nonsense", SchedulerConfig())


OWN = """
class Mine:
    def __init__(self, environment, *, fails_from: int = 1000):
        self.left, self.clock, self.heard = fails_from, environment.clock, []

    def choose(self, request, candidates):
        self.left -= 1
        if self.left < 0:
            raise KeyError("prompt")
        return candidates[len(request.prompt) % len(candidates)]

    def place(self, request, candidate):
        return Hearing(self)


class Hearing:
    def __init__(self, policy):
        self.policy = policy

    def on_first_token(self):
        self.policy.heard.append(("first", self.policy.clock()))

    def on_usage(self, prompt_tokens, cached_tokens):
        self.policy.heard.append((prompt_tokens, cached_tokens))

    def on_end(self):
        self.policy.heard.append(("end", self.policy.clock()))
"""


def own_policy(tmp_path, module, **options):
    (tmp_path / f"{module}.py").write_text(OWN)
    return f"{module}:Mine", SchedulerConfig(policy_options=options, policy_folder=str(tmp_path))


def test_a_policy_that_learns_hears_what_the_router_would_tell_it(tmp_path):
    policy, options = own_policy(tmp_path, "simulated_learner")
    simulator = Simulator(Fleet(1, ENGINE), policy, options)
    simulator.run([TraceRequest(1, 0, 1000, 11, [1, 2], 512), TraceRequest(2, 5, 1000, 1, [1, 2], 512)])
    heard = simulator._routers[0].scheduler._policy._policy.plugin.heard
    assert heard[0] == ("first", 1.0)
    assert heard[1] == (1000, 0)
    assert heard[2] == ("end", pytest.approx(1.1))
    assert heard[3][1] == pytest.approx(5.001)
    assert heard[4] == (1000, 999)


def test_a_policy_that_fails_ends_the_simulation(tmp_path):
    policy, options = own_policy(tmp_path, "simulated_failure", **{"fails-from": 3})
    with pytest.raises(ConfigError, match="simulated_failure:Mine raised: KeyError"):
        simulate(conversations(), Fleet(2, ENGINE), policy, options)


def test_an_instance_that_joins_later_serves_from_then_on():
    outcomes = simulate(conversations(), Fleet(3, ENGINE, joins=(30.0,)), "round_robin", SchedulerConfig()).outcomes
    by_half = [{each.instance for each in outcomes if (each.at >= 30) is late} for late in (False, True)]
    assert [len(each) for each in by_half] == [2, 3]


def test_instances_of_different_speeds():
    fleet = Fleet(2, ENGINE, speeds=(1.0, 0.5))
    requests = [TraceRequest(1, 0, 1000, 2, [1, 2], 512), TraceRequest(2, 0, 1000, 2, [3, 4], 512)]
    outcomes = simulate(requests, fleet, "round_robin", SchedulerConfig()).outcomes
    assert [each.ttft for each in outcomes] == [1.0, 2.0]
    assert [each.tpot for each in outcomes] == [pytest.approx(0.01), pytest.approx(0.02)]
    assert fleet.prefill_tokens_per_sec == 1500


def test_memory_that_is_short_makes_requests_wait():
    engine = EngineSettings(prefill_tokens_per_sec=1000, chunk_tokens=2048, kv_tokens=2000)
    requests = [TraceRequest(number, 0, 1500, 200, [number], 512) for number in (1, 2)]
    first, second = simulate(requests, Fleet(1, engine), "random", SchedulerConfig()).outcomes
    assert first.ttft == pytest.approx(1.5)
    assert second.ttft > first.seconds
