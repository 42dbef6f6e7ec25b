"""SIGHUP and ``POST /admin/reload`` on a router that serves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.mock_process import MockProcess, RouterProcess
from tests.support.raw_client import RawClient, request

ENDLESS = json.dumps(chat(max_tokens=1_000_000, stream=True)).encode()


@pytest.mark.slow
def test_a_fleet_and_its_limits_are_changed_while_requests_run() -> None:
    turns = {"scheduler": {"policy": "round_robin"}}
    with Fleet(2, mock={**QUICK, "decode_ms_per_token": 10}, config=turns) as fleet, RawClient(fleet.port) as client:
        new = fleet.add(MockProcess(**QUICK))
        client.send(request("/v1/chat/completions", ENDLESS))
        client.read_head()
        old = next(each for each in fleet.mocks if fleet.running(each))
        fleet.router.rewrite("register.yaml", lambda value: value["instances"].pop(fleet.mocks.index(old)))
        fleet.router.rewrite("register.yaml", lambda value: value["instances"].append(
            {"role": "mixed", "host_ip": "127.0.0.1", "port": new.port}
        ))  # fmt: skip
        fleet.router.rewrite("config.yaml", lambda value: value.update(proxy={"max-body-mb": 1}))
        fleet.router.rewrite("config.yaml", lambda value: value["server"].update(splitwise=True))
        assert fleet.router.call("POST", "/admin/reload") == (
            200,
            {
                "status": "reloaded",
                "changed": ["proxy.max-body-mb"],
                "needs_restart": ["server.splitwise"],
                "instances_added": [new.key],
                "instances_removed": [old.key],
                "problems": [],
                "warnings": [],
            },
        )
        eventually(lambda: fleet.is_healthy(new))
        old.call("POST", "/v1/abort_requests", {"abort_all": True})  # it ran on where it was, and ends in order
        assert client.read_chunks([])[-1].endswith(b"data: [DONE]\n\n")
        assert fleet.ask(prompt="x" * (2 << 20))[0] == 413
        before = len(old.completions())
        for _ in range(6):
            assert fleet.ask()[0] == 200
        assert len(old.completions()) == before
        assert len(new.completions()) == 3


def test_a_token_in_a_file_is_replaced_by_a_reload(tmp_path) -> None:  # type: ignore[no-untyped-def]
    old, new = ({"authorization": f"Bearer {letter * 16}"} for letter in "on")
    token = tmp_path / "token"
    token.write_text("o" * 16)
    with RouterProcess({"access": {"admin-token-path": str(token)}}) as router:
        router.wait_until_up()

        def status(headers: dict[str, str], path: str = "/registered", method: str = "GET") -> int:
            return httpx.request(
                method, f"http://127.0.0.1:{router.port}{path}", headers=headers, timeout=60
            ).status_code

        token.write_text("short")
        assert status(old, "/admin/reload", "POST") == 400
        assert (status(old), status(new)) == (200, 401)
        token.write_text("n" * 16)
        assert status(old, "/admin/reload", "POST") == 200
        assert (status(old), status(new)) == (401, 200)


def test_an_invalid_file_changes_nothing_and_says_so() -> None:
    with Fleet(1) as fleet:
        bad = {"max-body-mb": 1, "max-attempts": "many"}
        fleet.router.rewrite("config.yaml", lambda value: value.update(proxy=bad))
        fleet.router.rewrite("register.yaml", lambda value: value.update(instances=[{"role": "mixed"}]))
        fleet.router.process.send_signal(signal.SIGHUP)
        eventually(lambda: "Reload failed, nothing has changed: " in fleet.router.log)
        assert "proxy.max-attempts: 'many' is not a whole number" in fleet.router.log
        status, answer = fleet.router.call("POST", "/admin/reload")
        assert (status, answer["status"]) == (400, "unchanged")
        assert "proxy.max-attempts: 'many' is not a whole number" in answer["problems"][0]
        assert fleet.ask(prompt="x" * (2 << 20))[0] == 200
        fleet.router.rewrite("config.yaml", lambda value: value["proxy"].pop("max-attempts"))
        answer = fleet.router.call("POST", "/admin/reload")[1]
        begin = "register.yaml:1: Failed to register instance from index 0: invalid InstanceInfo format:"
        assert [problem.partition("/register")[1] for problem in answer["problems"]] == ["/register"] * 2
        assert answer["problems"][0].endswith(f"{begin} host_ip is required")
        assert answer["problems"][1].endswith(f"{begin} port is required")
        fleet.router.rewrite("register.yaml", lambda value: value["instances"][0].update(
            host_ip="127.0.0.1", port=fleet.mocks[0].port
        ))  # fmt: skip
        fleet.router.process.send_signal(signal.SIGHUP)
        eventually(lambda: "Reloaded: proxy.max-body-mb changed" in fleet.router.log)
        assert fleet.ask(prompt="x" * (2 << 20))[0] == 413


def test_a_file_that_never_ends_keeps_the_router_from_nothing() -> None:
    """A pipe that nobody writes to, as a file of a network mount that is away."""
    with Fleet(1) as fleet:
        path = fleet.router.directory / "register.yaml"
        path.unlink()
        os.mkfifo(path)
        writing = os.open(path, os.O_RDWR)
        try:
            fleet.router.process.send_signal(signal.SIGHUP)
            eventually(lambda: _has_open(fleet.router.process.pid, path))
            assert fleet.ask()[0] == 200
            assert fleet.router.stop() == 0
        finally:
            os.close(writing)


def _has_open(pid: int, path: Path) -> bool:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it may have been closed meanwhile
            found.append(link.readlink())
    return path in found
