"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No test asserts a speed: machines that run tests are often busy with something else.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
