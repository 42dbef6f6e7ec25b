"""What is a host name, and what isn't."""

from __future__ import annotations

import pytest

from fd_router.config.host_names import is_name, plain_address


@pytest.mark.parametrize(
    "host", ["node-1", "gpu1.example", "a_b.c", "1a", "x" * 63, "engine-0.engines.ns.svc.cluster.local"]
)
def test_a_name(host: str) -> None:
    assert is_name(host)


@pytest.mark.parametrize(
    "host",
    ["", "10.0.0.1", "256.1.1.1", "1.2.3", "::1", "a..b", "-a", "a-", ".a", "a b", "a/b", "a:1", "A", "x" * 64,
     "a." * 130 + "a", "gpu.1", "名", "a\n", "fe80::1%eth0"],
)  # fmt: skip
def test_no_name(host: str) -> None:
    assert not is_name(host)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("::FFFF:0a00:1", "10.0.0.1"), ("FD00::1", "fd00::1")],
)
def test_an_address_that_is_mapped_is_the_one_meant(text: str, plain: str) -> None:
    assert str(plain_address(text)) == plain
