"""Which instances a rule of ``instances.connections`` is for, and what is said of one that can't be used."""

from __future__ import annotations

from typing import Any

import pytest

from fd_router.config.connections import Facts, read_connections
from fd_router.config.instances import InstancesConfig
from fd_router.config.tls import TlsConfig
from fd_router.errors import ConfigError


def rules(connections: dict[str, Any], **tls: Any):  # type: ignore[no-untyped-def]
    return read_connections(InstancesConfig(connections=connections), TlsConfig(**tls))


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ("10.0.0.5", True),
        ("10.0.0.5:8000", True),
        ("10.0.0.5:8001", False),
        ("10.0.0.0/24", True),
        ("10.0.1.0/24", False),
        ("10.0.0.*", True),
        ("model:big", True),
        ("model:bi", False),
        ("label:pool=a", True),
        ("label:pool=b", False),
        ("label:zone=a", False),
        ("gpu-*", False),
    ],
)
def test_which_instances_it_is_for(match: str, fits: bool) -> None:
    rule, for_all = rules({match: {"tls": True}})
    facts = Facts("10.0.0.5", 8000, ("big",), {"pool": "a"})
    assert (rule.fits(facts), for_all.fits(facts)) == (fits, True)


def test_names_and_ipv6() -> None:
    rule, _ = rules({"gpu-*.example": {}})
    assert rule.fits(Facts("gpu-3.example", 8000))
    assert not rule.fits(Facts("cpu-3.example", 8000))
    one, net, _ = rules({"[fd00::1]:8000": {}, "fd00::/8": {}})
    assert one.fits(Facts("fd00::1", 8000))
    assert not one.fits(Facts("fd00::1", 8001))
    assert net.fits(Facts("fd00::1", 1))
    assert not net.fits(Facts("a.name", 1))


def test_what_a_rule_does_not_say_is_as_for_all() -> None:
    rule, for_all = rules(
        {"10.0.0.1": {"verify": False, "cert_path": "own.pem"}},
        upstream=True,
        upstream_ca_path="ca.pem",
        upstream_cert_path="router.pem",
        upstream_key_path="router.key",
    )
    assert (rule.settings.tls, rule.settings.ca_path, rule.settings.verify) == (True, "ca.pem", False)
    assert (rule.settings.cert_path, rule.settings.key_path) == ("own.pem", "")
    assert (for_all.settings.cert_path, for_all.settings.key_path) == ("router.pem", "router.key")


@pytest.mark.parametrize(
    ("connections", "problem"),
    [
        ({"10.0.0.0/99": {}}, "instances.connections: '10.0.0.0/99' fits no instance; give an address"),
        ({"label:pool": {}}, "instances.connections: 'label:pool' fits no instance"),
        ({"model:": {}}, "instances.connections: 'model:' fits no instance"),
        ({"a b": {}}, "instances.connections: 'a b' fits no instance"),
        ({"10.0.0.1": 5}, "instances.connections: 10.0.0.1: a mapping is needed, of tls, ca-path"),
        ({"10.0.0.1": {"ca-pth": "x"}}, "10.0.0.1: unknown key 'ca-pth'; did you mean 'ca-path'?"),
        ({"10.0.0.1": {"ca-path": "a\0b"}}, "10.0.0.1: ca-path: 'a\\x00b': no file or host is called so"),
        ({"10.0.0.1": {"verify": "perhaps"}}, "instances.connections: 10.0.0.1: verify: Expected `bool`"),
    ],
)
def test_what_is_wrong_is_named(connections: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(connections)
    assert problem in str(caught.value)
