"""What is wrong with a discovery's options is told by check-config, each with its line, and stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from fd_router.cli import run

CONFIG = """\
server: {port: 30000}
discovery:
  file: fleet.yaml
  dns:
    engines.example:
      prot: 8000
      min-secs: 0
    _http._tcp.engines.example:
      registration:
        role: prefill
    10.0.0.1: {port: 8000}
    other.example:
      port: 8000
      registration: {labels: [rack], host_ip: 10.0.0.9}
    third.example: {port: 1, nameservers: [ns.example]}
    last.example: 8000
"""


def test_each_mistake_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)
    Path("fleet.yaml").write_text("instances:\n- {role: mixed, host_ip: 10.0.0.1}\n")
    assert run(["check-config", "--config_path", "config.yaml"]) == 1
    told = [line.removeprefix("error: ") for line in "".join(capsys.readouterr()).splitlines()]
    assert told == [
        "config.yaml:6: discovery.dns.engines.example.prot: a DNS name has no such option; did you mean 'port'?",
        "config.yaml:7: discovery.dns.engines.example.min-secs: '0' doesn't fit: expected `float` >= 0.01",
        "config.yaml:9: discovery.dns._http._tcp.engines.example.registration: only MIXED instances are allowed",
        "config.yaml:11: discovery.dns.10.0.0.1: it is no name in the DNS",
        "config.yaml:14: discovery.dns.other.example.registration.host_ip: that is found, and can't be given",
        "config.yaml:15: discovery.dns.third.example.nameservers: 'ns.example' is no address, with a port or without",
        "config.yaml:16: discovery.dns.last.example: '8000' is no mapping of its options",
        "fleet.yaml:2: Failed to register instance from index 0: invalid InstanceInfo format: port is required",
    ]


def test_what_is_right_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(
        "server: {port: 30000, splitwise: true}\n"
        "discovery:\n"
        "  dns:\n"
        "    prefill.example: {port: 8000, nameservers: [10.0.0.2], registration: {role: prefill, dialect: sglang}}\n"
    )
    assert run(["check-config", "--config_path", "config.yaml"]) == 0, capsys.readouterr()


PODS = """\
server: {port: 30000, splitwise: true}
discovery:
  kubernetes:
    right: {label-selector: app=x, port: http, from-labels: {role: llm-d.ai/role}}
    unselected: {port: 8000}
    wrong:
      label-selector: app=x
      port: 70000
    other:
      label-selector: app=x
      from-labels:
        host-ip: somewhere
    role:
      label-selector: app=x
      registration:
        role: mixed
    file: {label-selector: app=x, kubeconfig: /none}
"""


def test_selections_of_pods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(PODS)
    assert run(["check-config", "--config_path", "config.yaml"]) == 1
    told = [line.removeprefix("error: ") for line in "".join(capsys.readouterr()).splitlines()]
    key = "discovery.kubernetes"
    assert told == [
        f"config.yaml:5: {key}.unselected: a selection of Pods needs 'label-selector'",
        f"config.yaml:8: {key}.wrong.port: '70000' doesn't fit: expected `int` <= 65535",
        f"config.yaml:12: {key}.other.from-labels.host-ip: a Pod can't tell that",
        f"config.yaml:15: {key}.role.registration: splitwise mode only supports PREFILL/DECODE instances",
        f"config.yaml:17: {key}.file.kubeconfig: /none: no such file",
    ]
