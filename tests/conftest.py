"""Settings of the whole suite."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

# No test asserts a speed: machines that run tests are often busy with something else.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Leave what is there for good, modules and some thousand tests, out of every collection that a test asks for."""
    gc.collect()
    gc.freeze()
