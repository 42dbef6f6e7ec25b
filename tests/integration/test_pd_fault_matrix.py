"""Every fault of either role of a pair, streamed or not, with a client that stays or leaves: see the matrix itself."""

import pytest
import uvloop

from tests.support.fault_matrix import CASES, run_all

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time


@pytest.fixture(scope="module")
def outcomes():
    return {outcome.case: outcome for outcome in uvloop.run(run_all())}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fault(case, outcomes):
    assert outcomes[case].problems == []
