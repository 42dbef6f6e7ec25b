from __future__ import annotations

from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.timing import TimedPolicy
from tests.support.scheduling_fakes import FakeRequest, fleet, make_environment


class Durations:
    def __init__(self) -> None:
        self.counts = [0, 0, 0]
        self.sum = 0.0


def test_a_decisions_time_is_noted_in_its_bucket() -> None:
    times = iter([0.0, 1.5, 10.0, 11.0, 20.0, 29.0])
    durations = Durations()
    policy = TimedPolicy(make_policy("request_num", make_environment()), durations, (1.0, 2.0), lambda: next(times))
    candidates = fleet(1, 0)
    assert [policy.choose(FakeRequest(), candidates) for _ in range(3)] == [candidates[1]] * 3
    assert (durations.counts, durations.sum) == ([1, 1, 1], 11.5)
    assert policy.explain(FakeRequest(), candidates).reason == "fewest running requests: 0"
    assert sum(durations.counts) == 3


def test_one_choice_of_so_many_is_timed() -> None:
    times = iter(range(100))
    durations = Durations()
    inner = make_policy("request_num", make_environment())
    policy = TimedPolicy(inner, durations, (1.0, 2.0), lambda: next(times), every=4)
    candidates = fleet(1, 0)
    assert [policy.choose(FakeRequest(), candidates) for _ in range(9)] == [candidates[1]] * 9
    assert sum(durations.counts) == 3  # the first, the fifth, the ninth
