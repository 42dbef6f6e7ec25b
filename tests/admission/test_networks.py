from __future__ import annotations

import pytest

from fd_router.admission.networks import Networks
from fd_router.errors import ConfigError

NETWORKS = Networks.parse("10.0.0.0/8, fd00::/8 192.0.2.7", "x")


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("fd12::1", True),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("::1", False),
        ("", False),
        ("localhost", False),
        ("10.0.0.0/8", False),
    ],
)
def test_membership(address: str, inside: bool) -> None:
    assert (address in NETWORKS) is inside


def test_its_text_and_what_is_none() -> None:
    assert str(NETWORKS) == "10.0.0.0/8, fd00::/8, 192.0.2.7/32"
    with pytest.raises(ConfigError) as caught:
        Networks.parse("10.0.0.1/8, nonsense", "access.register-networks")
    assert caught.value.problems == (
        "access.register-networks: 10.0.0.1/8 has host bits set",
        "access.register-networks: 'nonsense' does not appear to be an IPv4 or IPv6 network",
    )
