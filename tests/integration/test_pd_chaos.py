"""A few seconds of what ``benchmarks/pd_chaos.py`` does for longer and with more requests."""

import pytest
import uvloop

from tests.support.pd_chaos import Plan, run_chaos

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time


@pytest.mark.slow
def test_nothing_is_lost_or_left_while_instances_die():
    report = uvloop.run(run_chaos(Plan(seconds=5, concurrent=100, decode_ms=40)))
    assert report.problems == []
    assert report.kills >= 4
    assert report.retries > 0
    assert report.endings["answered"] > report.sent / 2
