"""``ttft_aware`` on sample traces: on no kind of traffic does it lose to the plain policies. Seconds in all."""

from __future__ import annotations

import pytest

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.simulate.simulator import Fleet, simulate
from fd_router.devtools.traces.samples import SAMPLES
from fd_router.devtools.traces.trace import at_speed

PLAIN = ("request_num", "process_tokens", "cache_aware")


def mean_ttfts(kind: str, rate: float, fleet: Fleet, policies: tuple[str, ...]) -> list[float]:
    requests = at_speed(SAMPLES[kind](120 if kind == "documents" else 250, 1), rate)
    return [simulate(requests, fleet, policy, SchedulerConfig(), seed=1).summary().ttft_mean for policy in policies]


def fleet(slots: int, **other: object) -> Fleet:
    engine = EngineSettings(5400, 0.01, 0.00005, 1_000_000, slots, chunk_tokens=8192, kv_tokens=1_000_000)
    return Fleet(8, engine, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "rate", "slots", "most"),
    [
        ("chat", 45.0, 32, 1.35),  # those that have no copy yet get one: 8 × 0.46 s in 250 requests weigh
        ("chat", 20.0, 8, 1.35),
        ("tenants", 30.0, 32, 1.0),
        ("agents", 20.0, 32, 1.0),
        ("documents", 3.0, 32, 1.0),
        ("bursts", 20.0, 32, 1.0),
        ("strangers", 12.0, 32, 1.05),
    ],
)
def test_it_does_not_lose_to_plain_policies(kind: str, rate: float, slots: int, most: float) -> None:
    ours, *others = mean_ttfts(kind, rate, fleet(slots), ("ttft_aware", *PLAIN))
    assert ours <= most * min(others)


@pytest.mark.parametrize("uneven", [{"speeds": (1.0,) * 7 + (0.4,)}, {"joins": (5.0,)}])
def test_nor_in_fleets_that_are_not_even(uneven: dict[str, object]) -> None:
    ours, *others = mean_ttfts("tenants", 30.0, fleet(32, **uneven), ("ttft_aware", *PLAIN))
    assert ours <= min(others)
