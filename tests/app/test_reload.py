"""Reloading: all or nothing."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fd_router.app import reload
from fd_router.app.reload import Reloader, merged
from fd_router.config.live import LiveConfig
from fd_router.config.loading import Config, Loaded
from fd_router.engines.dialects import Dialects
from fd_router.errors import ConfigError
from fd_router.instances.registration import require_served
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_YAML
from fd_router.instances.sources.members import Diff, FleetSources
from fd_router.instances.sources.register_yaml import RegisterYaml
from fd_router.telemetry.logging.text_log import RouterLog
from tests.support.fake_log import FakeLog
from tests.support.live import live_config


def test_only_what_is_live_is_taken_and_the_rest_is_named() -> None:
    old = Config()
    new = Config(
        server=msgspec.structs.replace(old.server, port=99, drain_delay_secs=3),
        proxy=msgspec.structs.replace(old.proxy, max_attempts=9),
    )
    config, changed, waiting = merged(old, new)
    assert changed == ("server.drain-delay-secs", "proxy.max-attempts")
    assert waiting == ("server.port",)
    assert (config.server.port, config.server.drain_delay_secs, config.proxy.max_attempts) == (0, 3, 9)
    assert merged(config, new)[1:] == ((), ("server.port",))  # it goes on to be named


class Stand:
    """A reloader and what it works on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = FakeLog()
        self.registry = Registry(clock=lambda: 0.0, log=self.log, live=live_config())
        self.live = LiveConfig(self.configured(max_attempts=3))
        self.new = self.live.current
        self.load_problem = self.key_problem = self.part_problem = ""
        self.commits = 0
        self.keys_read = 0
        log: RouterLog = self.log  # type: ignore[assignment]
        self.reloader = Reloader(self.live, self.load, [self.part], self.keys, sources=self.sources, log=log)
        accept = partial(require_served, dialects=Dialects(), splitwise=False)
        self.members = FleetSources(self.registry, accept, log=self.log).members_of(REGISTER_YAML)
        self.register_yaml = RegisterYaml("", accept, log=self.log)

    def sources(self, config: Config) -> Callable[[], Awaitable[Diff]]:
        return partial(self.register_yaml.prepare(config.manager.register_path), self.members)

    def configured(self, **proxy: Any) -> Config:
        config = Config()
        manager = msgspec.structs.replace(config.manager, register_path=str(self.path))
        return msgspec.structs.replace(config, manager=manager, proxy=msgspec.structs.replace(config.proxy, **proxy))

    def load(self) -> Loaded:
        if self.load_problem:
            raise ConfigError(self.load_problem)
        return Loaded(self.new, ("odd but no fault",))

    def part(self, _config: Config) -> Callable[[], None]:
        if self.part_problem:
            raise ConfigError(self.part_problem)
        return self.commit

    def commit(self) -> None:
        self.commits += 1

    async def keys(self) -> tuple[str, ...]:
        if self.key_problem:
            return (self.key_problem,)
        self.keys_read += 1
        return ()

    def register(self, *ports: int, text: str = "") -> None:
        lines = "".join(f"\n- {{role: mixed, host_ip: 10.0.0.1, port: {port}}}" for port in ports)
        self.path.write_text(text or f"instances:{lines}")

    @property
    def kept(self) -> list[str]:
        return [instance.key for instance in self.registry.all() if instance.source == REGISTER_YAML]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    stand = Stand(tmp_path / "register.yaml")
    stand.register(1, 2)
    return stand


async def test_everything_is_right(stand: Stand) -> None:
    await stand.reloader.reload()
    assert stand.kept == ["10.0.0.1:1", "10.0.0.1:2"]
    stand.registry.get("10.0.0.1:1").acquire(5)  # type: ignore[union-attr]
    stand.register(2, 3)
    stand.new = stand.configured(max_attempts=9)
    outcome = await stand.reloader.reload()
    assert outcome.changed == ("proxy.max-attempts",)
    assert (outcome.instances_added, outcome.instances_removed) == (("10.0.0.1:3",), ("10.0.0.1:1",))
    assert outcome.warnings == ("odd but no fault",)
    assert stand.live.current.proxy.max_attempts == 9
    assert stand.kept == ["10.0.0.1:2", "10.0.0.1:3"]
    assert [x.key for x in stand.registry.removed_in_use()] == ["10.0.0.1:1"]  # a request still runs there
    assert (stand.commits, stand.keys_read) == (2, 2)
    assert ("info", "Reloaded: proxy.max-attempts changed; 1 instances added, 1 removed") in stand.log.lines


@pytest.mark.parametrize("fault", ["load", "register", "entry", "part", "keys"])
async def test_one_invalid_file_and_nothing_changes(stand: Stand, fault: str) -> None:
    await stand.reloader.reload()
    stand.new = stand.configured(max_attempts=9)
    stand.register(7)
    if fault == "load":
        stand.load_problem = "config.yaml:1: server.port: 'x' is wrong"
    elif fault == "register":
        stand.register(text="instances: [")
    elif fault == "entry":
        stand.register(1, 2, 100_000)
    elif fault == "part":
        stand.part_problem = "cert.pem: no certificate"
    else:
        stand.key_problem = "keys.yaml: not valid"
    outcome = await stand.reloader.reload()
    assert len(outcome.problems) == 1
    assert outcome.changed == outcome.instances_added == ()
    assert stand.live.current.proxy.max_attempts == 3
    assert stand.kept == ["10.0.0.1:1", "10.0.0.1:2"]
    assert (stand.commits, stand.keys_read) == (1, 1)
    assert ("error", f"Reload failed, nothing has changed: {outcome.problems[0]}") in stand.log.lines
    stand.load_problem = stand.part_problem = stand.key_problem = ""
    stand.register(7)
    assert not (await stand.reloader.reload()).problems  # mended, it works
    assert stand.kept == ["10.0.0.1:7"]


async def test_a_file_that_can_not_be_read_to_its_end_does_not_end_reloading(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network mount that is away, for one."""
    comes_back = threading.Event()
    load = stand.load

    def load_slowly() -> Loaded:
        assert comes_back.wait(60)
        return load()

    monkeypatch.setattr(reload, "READ_SECS", 0.01)
    monkeypatch.setattr(stand.reloader, "_load", load_slowly)
    assert (await stand.reloader.reload()).problems == ("the files can't be read within 0.01 s",)
    comes_back.set()
    monkeypatch.setattr(reload, "READ_SECS", 60.0)
    assert (await stand.reloader.reload()).problems == ()


async def test_no_register_file_any_more(stand: Stand) -> None:
    await stand.reloader.reload()
    stand.new = Config()
    assert (await stand.reloader.reload()).instances_removed == ("10.0.0.1:1", "10.0.0.1:2")
