"""What deploy/ has for Prometheus and Grafana: valid, and about metrics that a live router shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fd_router.admission.keys import entry, hash_key, make_key
from tests.support.live_router import LiveRouter
from tests.support.redis_server import RedisServer

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
PROMTOOL = shutil.which("promtool")

_METRIC = re.compile(r"\b((?:fd_router|process|http|inference)_[a-z0-9_]+)\b(?!\")")


def panels() -> dict[str, list[str]]:
    """Return the expressions of each panel by its title."""
    page: dict[str, Any] = json.loads((DEPLOY / "grafana" / "fd-router.json").read_text())
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in page["panels"]
        if panel["type"] != "row"
    }


def rules() -> dict[str, str]:
    """Return the alerts' expressions by name."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


async def shown_names(folder: Path) -> tuple[set[str], set[str]]:
    """Return the names of a live router's samples, and of its families, once a few things have happened."""
    key = make_key()
    (folder / "keys.yaml").write_text(entry("team", hash_key(key), begins_file=True))
    sections = {"access": {"keys_path": str(folder / "keys.yaml")}, "scheduler": {"policy": "cache_aware"}}
    with RedisServer() as server:
        return await shown_by(folder, key, {**sections, "state": {"url": server.url}})


async def shown_by(folder: Path, key: str, sections: dict[str, Any]) -> tuple[set[str], set[str]]:
    async with LiveRouter(folder, "log.level", "warn", sections) as router:
        shown = f"Authorization: Bearer {key}\r\n"
        broken, _ = await router.add(), await router.add()
        await router.ask(headers=shown)
        broken.answer = None
        for _ in range(6):
            await router.ask(headers=shown)
        await router.ask()  # without a key
        page = (await router.exchange(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).decode()
    samples = {re.split(r"[{ ]", line)[0] for line in page.splitlines() if re.match(r"[a-z]", line)}
    families = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    return samples, families


async def test_no_panel_is_without_data_and_no_alert_about_nothing(tmp_path: Path) -> None:
    samples, families = await shown_names(tmp_path)
    assert len(panels()) > 20
    for title, expressions in panels().items():
        for expression in expressions:
            named = set(_METRIC.findall(expression))
            assert named, title
            known = families if "or vector(0)" in expression else samples  # those show a line of zeros
            assert named <= known | samples, title
            assert '{job=~"$job", instance=~"$router"}' in expression, title
    for alert, expression in rules().items():
        for name in _METRIC.findall(expression):
            assert name in samples | families, alert


def test_every_alert_says_what_to_do() -> None:
    for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert {"summary", "mend"} <= rule["annotations"].keys()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool isn't installed (Debian: prometheus)")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yaml"),
        ("check", "config", "two-routers.yaml"),
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts.test.yaml"),
    ],
)
def test_prometheus_takes_it(arguments: tuple[str, ...]) -> None:
    command = [str(PROMTOOL), *arguments]
    done = subprocess.run(command, check=False, cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
