"""Settings of the whole suite."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

# No test asserts a speed: machines that run tests are often busy otherwise. Examples are the same in each run:
# what fails is the fault of what was changed. Others are looked for by --hypothesis-profile=search, and by make fuzz.
ANY_SPEED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("suite", derandomize=True, max_examples=50, **ANY_SPEED)
settings.register_profile("search", **ANY_SPEED)
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Leave what is there for good, modules and some thousand tests, out of every collection that a test asks for."""
    gc.collect()
    gc.freeze()


MEASURED = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""By these, processes that a test starts measure their coverage."""


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Run tests that are marked ``unmeasured`` at full speed: what they go through is covered by others."""
    if item.get_closest_marker("unmeasured") is None:
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)  # in xdist's workers, to pause pytest-cov alone would leave what has begun before it
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(scope="module", autouse=True)
def _unmeasured_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where a module's tests are marked ``unmeasured``, the processes that they start run at full speed, too."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("unmeasured") is not None:
            for name in MEASURED:
                patch.delenv(name, raising=False)
        yield
