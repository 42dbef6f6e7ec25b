"""Settings of the whole suite."""

from __future__ import annotations

import gc

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
