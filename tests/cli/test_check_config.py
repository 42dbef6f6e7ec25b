"""``check-config`` tells all that is wrong at once, each with its file and line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fd_router.cli import run

CONFIG = """\
server:
  port: 1
  endpoints: nowhere:THING
scheduler:
  policy: mine:Mine
instances:
  dialects: mine:NoDialect
manager:
  register-path: register.yaml
  state-path: register.yaml/state.json
telemetry:
  record-sinks: mine:Sink, mine:Gone
access:
  keys-path: keys.yaml
tls:
  cert-path: none.pem
log:
  output: file
  path: .
"""

REGISTER = """\
instances:
  - role: mixed
    host_ip: 10.0.0.1
  - {role: decode, host_ip: 10.0.0.1, port: 8000}
"""

KEYS = """\
keys:
  - name: a
    sha256: 12
    priorty: high
    max-concurrent: -1
  - name: b
"""

MINE = """\
class Mine:
    async def choose(self, request):
        return None
class NoDialect: pass
class Sink: pass
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in {
        "config.yaml": CONFIG, "register.yaml": REGISTER, "keys.yaml": KEYS,
        "mine_of_check_config.py": MINE,
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text.replace("mine:", "mine_of_check_config:"))
    return tmp_path


def test_everything_at_once_with_file_and_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "--config_path", "config.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    for begin in (
        "config.yaml:5: scheduler.policy: 'mine_of_check_config:Mine': Mine.choose is async; it must be a plain method",
        "config.yaml:3: server.endpoints: 'nowhere:THING': there is no module 'nowhere'",
        "config.yaml:7: instances.dialects: 'mine_of_check_config:NoDialect': it is no subclass",
        "config.yaml:12: telemetry.record-sinks: 'mine_of_check_config:Sink': it is no subclass",
        "config.yaml:12: telemetry.record-sinks: 'mine_of_check_config:Gone': ",
        "keys.yaml:2: keys[0]: sha256: ",
        "keys.yaml:2: keys[0]: unknown field 'priorty'; did you mean 'priority'?",
        "keys.yaml:2: keys[0]: max-concurrent: Expected `int` >= 0",
        "keys.yaml:6: keys[1]: Object missing required field `sha256`",
        "config.yaml:16: tls.cert-path: none.pem: no such file or directory",
        "config.yaml:10: manager.state-path: 'register.yaml/state.json' can't be written: ",
        "config.yaml:19: log.path: '.' can't be written: it is a directory; name a file in it",
    ):
        assert [line for line in lines if line.startswith(f"error: {begin}")], begin


def test_a_register_file_that_is_wrong_in_several_places(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "--port", "1", "--config_path", "only.yaml"]) == 1
    capsys.readouterr()
    (files / "only.yaml").write_text("manager: {register-path: register.yaml}")
    assert run(["check-config", "--port", "1", "--config_path", "only.yaml"]) == 1
    begin = "error: register.yaml"
    assert capsys.readouterr().out.splitlines() == [
        f"{begin}:2: Failed to register instance from index 0: invalid InstanceInfo format: port is required",
        f"{begin}:4: Failed to register instance from index 1: only MIXED instances are allowed",
    ]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("def choose(self, request): ...", "choose(self, request) can't be called as choose(request, candidates)"),
        ("async def choose(self, request, candidates): ...", "choose is async; it must be a plain method"),
        ("choose = 1", "choose is no method"),
    ],
)
def test_a_policy_that_would_fail_with_every_request(
    files: Path, method: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"policy_{abs(hash(method))}"
    (files / f"{module}.py").write_text(f"class P:\n    {method}\n")
    (files / "p.yaml").write_text(f"server: {{port: 1}}\nscheduler:\n\n  policy: {module}:P\n")
    assert run(["check-config", "--config_path", "p.yaml"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"error: p.yaml:4: scheduler.policy: '{module}:P': P.{said}")


def test_the_router_refuses_to_start_with_the_same_words(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "p.yaml").write_text("server: {port: 1}\nscheduler:\n  policy: nowhere_at_all:P\n")
    assert run(["check-config", "--config_path", "p.yaml"]) == 1
    said = capsys.readouterr().out.removeprefix("error: ")
    assert said.startswith("p.yaml:3: scheduler.policy: ")
    assert run(["--config_path", "p.yaml"]) == 1
    assert capsys.readouterr().err == f"fd-router: error: {said}"


@pytest.mark.parametrize(
    ("options", "package", "said"),
    [
        ("state: {url: 'redis://127.0.0.1:1'}", "redis.asyncio", "state.url needs the package redis: "),
        ("telemetry: {traces-endpoint: 'http://x/v1/traces'}", "opentelemetry", "telemetry.traces-endpoint needs "),
        ("scheduler: {policy: cache_aware, kv-events: 'on'}", "zmq", "scheduler.kv-events: on: the package 'pyzmq'"),
        ("scheduler: {shadow-policy: cache_aware, kv-events: 'on'}", "zmq", "scheduler.kv-events: on: the package "),
    ],
)
def test_a_package_that_is_missing_is_told_before_the_start(
    files: Path,
    options: str,
    package: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (files / "p.yaml").write_text(f"server: {{port: 1}}\n{options}\n")
    assert run(["check-config", "--config_path", "p.yaml"]) == 0
    capsys.readouterr()
    monkeypatch.delitem(sys.modules, "fd_router.telemetry.tracing.spans", raising=False)
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert run(["check-config", "--config_path", "p.yaml"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"error: p.yaml:2: {said}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("scheduler: {shadow-policy: 'nowhere_at_all:P'}", "scheduler.shadow-policy: 'nowhere_at_all:P': there is no "),
        ("scheduler: {tokenizer-url: 'ftp://x'}", "scheduler.tokenizer-url: 'ftp://x' is not an http:// or https://"),
        ("state: {url: 'redis://x:port'}", "state.url: 'redis://x:port' names no server: "),
        ("access: {control-port: 1}", "access.control-port: 1 is server.port; the control port needs one of its own"),
        ("access: {control-port: 2}", ""),
        ("access: {control-port: 1, control-host: 127.0.0.2}", "access.control-port: 1 is server.port"),
    ],
)
def test_what_would_keep_the_router_from_starting(
    files: Path, options: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "p.yaml").write_text(f"server: {{port: 1}}\n{options}\n")
    assert run(["check-config", "--config_path", "p.yaml"]) == (1 if said else 0)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"error: p.yaml:2: {said}" if said else "OK")


def test_two_addresses_may_have_the_same_port(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "p.yaml").write_text("server: {port: 1, host: 127.0.0.2}\naccess: {control-port: 1}\n")
    assert run(["check-config", "--config_path", "p.yaml"]) == 0
    assert capsys.readouterr().out == "OK\n"
