"""The Dockerfile: linted, and its parts checked, since tests have no Docker."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sys.executable).parent / "hadolint"


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, continued lines as one."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines())]


def last_stage() -> dict[str, str]:
    found = instructions()
    start = max(place for place, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint isn't there for this platform")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [str(HADOLINT), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_runs_as_nobody_in_particular_and_the_router_gets_the_signals() -> None:
    stage = last_stage()
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", stage["USER"])  # a number, for Kubernetes
    assert json.loads(stage["ENTRYPOINT"]) == ["fd-router"]
    assert json.loads(stage["CMD"]) == ["--port", stage["EXPOSE"]]
    assert "PYTHONDONTWRITEBYTECODE=1" in stage["ENV"]  # the file system can't be written


def test_what_is_copied_is_there_and_nothing_else_goes_to_the_builder() -> None:
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
    assert any(fnmatch("src/fd_router/__pycache__", rule) for rule in rules)


def test_the_image_has_what_several_routers_discoveries_and_traces_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    locked = (ROOT / "requirements-image.lock").read_text()
    for extra in ("dns", "kubernetes", "redis", "otel"):
        for needed in extras[extra]:
            name = re.split(r"[\[><=]", needed)[0].replace("_", "-")
            assert re.search(rf"^{name}(\[\w+\])?==", locked, re.MULTILINE), name


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_whether_it_lives(status: int, code: int) -> None:
    asked: list[str] = []

    class Router(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    options, _, command = last_stage()["HEALTHCHECK"].partition(" CMD ")
    assert "--start-period" in options
    program, *arguments = json.loads(command)
    assert program == "python"
    with http.server.HTTPServer(("127.0.0.1", 0), Router) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        environment = {"FD_ROUTER_SERVER_PORT": str(server.server_port), "no_proxy": "*"}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, timeout=60, check=False
        )
        thread.join(60)
    assert (asked, done.returncode) == (["/live"], code)
