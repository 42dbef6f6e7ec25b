"""Where instances may be."""

from __future__ import annotations

import pytest

from fd_router.admission.networks import Networks
from fd_router.instances.sources.networks import why_outside


@pytest.mark.parametrize("host", ["10.0.0.1", "engine.example"])
def test_an_address_within_and_a_name_may_be_one(host: str) -> None:
    assert why_outside(Networks.parse("10.0.0.0/8", "x"), host) == why_outside(None, "192.0.2.1") == ""


def test_an_address_elsewhere_may_not() -> None:
    why = "192.0.2.1 is in none of access.register-networks"
    assert why_outside(Networks.parse("10.0.0.0/8", "x"), "192.0.2.1") == why
