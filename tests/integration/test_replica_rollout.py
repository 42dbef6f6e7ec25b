"""Replicas and their state engine are restarted and killed under load: nothing fails, nothing stays counted.

``benchmarks/rollout.py`` does the same twenty times.
"""

from __future__ import annotations

import pytest

from tests.support import rollout
from tests.support.ports import free_port
from tests.support.rollout import Plan, run_rollout

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

EVENTS = [rollout.REPLICA_RESTARTED, rollout.REPLICA_KILLED, rollout.ENGINE_KILLED, rollout.ENGINE_STOPPED]


@pytest.mark.slow
async def test_a_rollout_of_everything_fails_no_request() -> None:
    plan = Plan(
        events=EVENTS, replicas=2, instances=2, clients=6, stream_tokens=30, away_secs=[0.7], apart_secs=0.2,
        drain_delay_secs=0.8, poll_secs=0.05,
    )  # fmt: skip
    report = await run_rollout(plan, free_port)
    assert report.failures == []
    assert report.problems == []
    assert report.done.total() == len(EVENTS)
    assert report.answered >= 20
    assert report.streams >= 5
