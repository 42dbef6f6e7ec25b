"""Reloading: all or nothing, and every option that says it is live really is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fd_router.app.reload import Reloader, merged
from fd_router.app.router import Router
from fd_router.config.loading import OPTIONS, Config, Loaded
from fd_router.engines.dialects import Dialects
from fd_router.errors import ConfigError
from fd_router.instances.registration import require_served
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_YAML
from fd_router.instances.sources.members import Diff, FleetSources
from fd_router.instances.sources.register_yaml import RegisterYaml
from fd_router.telemetry.logging.factory import open_log
from fd_router.telemetry.logging.text_log import RouterLog
from tests.support.fake_log import FakeLog

LIVE: dict[str, Callable[[Any], Any]] = {
    "server.drain-delay-secs": lambda router: router._config.server.drain_delay_secs,
    "server.drain-timeout-secs": lambda router: router._config.server.drain_timeout_secs,
    "scheduler.stats-interval-secs": lambda router: router._config.scheduler.stats_interval_secs,
    "manager.register-path": lambda router: router._config.manager.register_path,
    "manager.health-failure-threshold": lambda router: router._registry.thresholds.failures,
    "manager.health-success-threshold": lambda router: router._registry.thresholds.successes,
    "manager.health-check-timeout-secs": lambda router: router._monitor._timeout,
    "manager.health-check-interval-secs": lambda router: router._monitor._interval,
    "manager.health-check-endpoint": lambda router: router._monitor._endpoint,
    "manager.instance-expiry-secs": lambda router: router._registry.expiry_secs,
    "log.level": lambda router: ("debug", "info", "warn", "error")[
        [router._log.debug_on, router._log.info_on, router._log.warn_on, True].index(True)
    ],
    "admission.max-queued": lambda router: router._admission.queue._live.current.admission.max_queued,
    "admission.queue-timeout-secs": lambda router: router._admission.queue._live.current.admission.queue_timeout_secs,
    "proxy.max-attempts": lambda router: router._live.current.proxy.max_attempts,
    "proxy.prefill-timeout-secs": lambda router: router._live.current.proxy.prefill_timeout_secs,
    "proxy.expose-instances": lambda router: router._live.current.proxy.expose_instances,
    "proxy.first-byte-timeout-secs": lambda router: router._pools._upstream.first_byte_timeout,
    "proxy.stall-timeout-secs": lambda router: router._pools._upstream.stall_timeout,
    "proxy.connect-timeout-secs": lambda router: pool_of(router).settings.connect_timeout_secs,
    "proxy.pool-idle-timeout-secs": lambda router: pool_of(router).settings.pool_idle_timeout_secs,
    "proxy.pool-max-idle": lambda router: pool_of(router).settings.pool_max_idle,
    "proxy.max-body-mb": lambda router: router._site.body_limit("/v1/completions") >> 20,
    "proxy.max-head-kb": lambda router: router._site.reader.max_head >> 10,
    "proxy.client-head-timeout-secs": lambda router: router._site.settings.client_head_timeout_secs,
    "proxy.client-body-timeout-secs": lambda router: router._site.settings.client_body_timeout_secs,
    "proxy.client-request-timeout-secs": lambda router: router._site.settings.client_request_timeout_secs,
    "proxy.max-connections": lambda router: router._site.crowd.most,
    "proxy.client-idle-timeout-secs": lambda router: router._site.settings.client_idle_timeout_secs,
}
"""Where a running router shows the value that it goes by."""


class At:
    key, host, port = "10.0.0.1:1", "10.0.0.1", 1


def pool_of(router: Any) -> Any:
    return router._pools.of(At)


def another_value(option: Any) -> Any:
    if option.kind is bool:
        return not option.default
    if option.option.choices:
        return next(choice for choice in option.option.choices if choice != option.default)
    if option.kind is str:
        return "/another"
    return option.default + 7


def with_others(config: Config) -> Config:
    """Give every option that has a place in ``LIVE`` another value."""
    for option in OPTIONS:
        if option.key in LIVE:
            section = getattr(config, option.section)
            section = msgspec.structs.replace(section, **{option.attribute: another_value(option)})
            config = msgspec.structs.replace(config, **{option.section: section})
    return config


def test_the_options_that_are_live_are_those_that_are_looked_at_here() -> None:
    assert {option.key for option in OPTIONS if option.option.live} == set(LIVE)


async def test_each_live_option_is_in_force_after_a_reload(tmp_path: Path) -> None:
    splitwise = Config(server=msgspec.structs.replace(Config().server, splitwise=True))
    log = open_log(output="file", path=str(tmp_path / "log"))
    new = with_others(splitwise)
    router = Router(splitwise, log)
    pool_of(router)  # one that is there already
    before = {key: show(router) for key, show in LIVE.items()}
    router._apply(new)
    after = {key: show(router) for key, show in LIVE.items()}
    wanted = {option.key: another_value(option) for option in OPTIONS if option.key in LIVE}
    assert after == wanted
    assert all(before[key] != after[key] for key in LIVE)


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
        self.registry = Registry(clock=lambda: 0.0, log=self.log)
        self.config = self.new = self.configured(max_attempts=3)
        self.load_problem = self.key_problem = self.part_problem = ""
        self.commits = 0
        self.keys_read = 0
        log: RouterLog = self.log  # type: ignore[assignment]
        self.reloader = Reloader(
            self.config, self.load, [self.part], self.keys, self.apply, sources=self.sources, log=log
        )
        accept = partial(require_served, dialects=Dialects(), splitwise=False)
        self.members = FleetSources(self.registry, accept, log=self.log).members_of(REGISTER_YAML)
        self.register_yaml = RegisterYaml("", accept, log=self.log)

    def sources(self, config: Config) -> Callable[[], Diff]:
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

    def keys(self) -> tuple[str, ...]:
        if self.key_problem:
            return (self.key_problem,)
        self.keys_read += 1
        return ()

    def apply(self, config: Config) -> None:
        self.config = config

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
    assert stand.config.proxy.max_attempts == 9
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
    assert stand.config.proxy.max_attempts == 3
    assert stand.kept == ["10.0.0.1:1", "10.0.0.1:2"]
    assert (stand.commits, stand.keys_read) == (1, 1)
    assert ("error", f"Reload failed, nothing has changed: {outcome.problems[0]}") in stand.log.lines
    stand.load_problem = stand.part_problem = stand.key_problem = ""
    stand.register(7)
    assert not (await stand.reloader.reload()).problems  # mended, it works
    assert stand.kept == ["10.0.0.1:7"]


async def test_no_register_file_any_more(stand: Stand) -> None:
    await stand.reloader.reload()
    stand.new = Config()
    assert (await stand.reloader.reload()).instances_removed == ("10.0.0.1:1", "10.0.0.1:2")
