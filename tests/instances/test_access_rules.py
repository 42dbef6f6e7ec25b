"""Which access an instance gets, by what it registered."""

from __future__ import annotations

from pathlib import Path

from fd_router.config.connections import read_connections
from fd_router.config.instances import InstancesConfig
from fd_router.config.tls import TlsConfig
from fd_router.instances.access_rules import AccessRules
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from tests.support.live import live_config


def told(host: str = "10.0.0.1", **more: object):  # type: ignore[no-untyped-def]
    return parse_registration({"role": "mixed", "host_ip": host, "port": 8000, **more})


def test_the_first_rule_that_fits_holds(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text(f"key-of-{name}")
    connections = {
        "10.0.0.1": {"api-key-path": str(tmp_path / "one")},
        "model:embed": {"api-key-path": str(tmp_path / "other"), "tls": True, "verify": False},
    }
    rules = AccessRules(read_connections(InstancesConfig(connections=connections), TlsConfig()))
    assert rules.of(told()).authorization == "Bearer key-of-one"
    assert rules.of(told(model="embed")).authorization == "Bearer key-of-one"
    other = rules.of(told("10.0.0.2", model="embed"))
    assert (other.authorization, other.is_encrypted) == ("Bearer key-of-other", True)
    assert rules.of(told("10.0.0.3", models=["chat", "embed"])) is other
    plain = rules.of(told("10.0.0.4"))
    assert (plain.authorization, plain.is_encrypted) == ("", False)
    (tmp_path / "other").write_text("rotated")
    rules.prepare()()
    assert other.authorization == "Bearer rotated"


def test_https_is_the_instances_own_word() -> None:
    rules = AccessRules()
    registration = told("https://10.0.0.1")
    assert registration.url == "https://10.0.0.1:8000"
    assert rules.of(registration).is_encrypted
    assert rules.of(registration) is rules.of(told("https://10.0.0.2"))
    assert not rules.of(told()).is_encrypted


def test_an_instance_that_changes_its_scheme_is_another_one(registry: Registry) -> None:
    seen: list[Change] = []
    registry.on_change(seen.append)
    first = registry.register(told())
    again = registry.register(told("https://10.0.0.1"))
    assert [change.kind for change in seen if change.kind in (ChangeKind.ADDED, ChangeKind.REMOVED)] == [
        ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.ADDED,
    ]  # fmt: skip
    assert (first.groups, again.url, again.access.is_encrypted) == ((), "https://10.0.0.1:8000", True)
    assert registry.all() == (again,)


def test_another_rule_is_told(log) -> None:  # type: ignore[no-untyped-def]
    connections = {"label:pool=a": {"tls": True, "verify": False}}
    rules = AccessRules(read_connections(InstancesConfig(connections=connections), TlsConfig()))
    registry = Registry(clock=lambda: 0.0, log=log, live=live_config(), access=rules)
    instance = registry.register(told())
    seen: list[ChangeKind] = []
    registry.on_change(lambda change: seen.append(change.kind))
    registry.register(told(labels={"pool": "a"}))
    assert seen == [ChangeKind.ACCESS]
    assert instance.access.is_encrypted
