"""The commands for a running router, from the command line to what the router is asked."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fd_router.cli import run
from tests.support.scripted_router import ScriptedRouter, entry

KEY = "10.0.0.1:8000"
PATH = "/instances/10.0.0.1%3A8000"
EXPLAINED = {"path": "/v1/chat/completions", "prompt": {"characters": 1, "tokens": 2, "estimated": True}, "roles": []}
OUTCOME = {
    "changed": [],
    "needs_restart": [],
    "instances_added": [],
    "instances_removed": [],
    "problems": [],
    "warnings": [],
}


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedRouter]:
    answers = {
        "GET /health": (200, {"status": "healthy"}),
        "GET /instances": (200, {"instances": [entry(KEY)]}),
        f"POST {PATH}/drain": (200, entry(KEY, draining=True)),
        f"POST {PATH}/undrain": (200, entry(KEY)),
        f"DELETE {PATH}?ban_secs=5": (200, {"removed": KEY, "running": 0}),
        "POST /v1/explain": (200, EXPLAINED),
        "POST /v1/explain?path=/v1/completions": (200, EXPLAINED),
        "POST /admin/reload": (200, OUTCOME),
        "POST /v1/abort_requests": (200, {"result": {"aborted": [], "not_found": []}}),
    }
    with ScriptedRouter(answers) as made:
        monkeypatch.setenv("FD_ROUTER_ADDRESS", made.address)
        yield made


@pytest.mark.parametrize(
    ("arguments", "asked", "said"),
    [
        (["status"], "GET /instances", KEY),
        (["drain", KEY], f"POST {PATH}/drain", "drains: nothing runs there"),
        (["drain", f"http://{KEY}", "--wait-secs", "3"], f"POST {PATH}/drain", "drains: nothing runs there"),
        (["undrain", KEY], f"POST {PATH}/undrain", "no longer drains"),
        (["remove", KEY, "--ban-secs", "5"], f"DELETE {PATH}?ban_secs=5", "may not register for 5 s"),
        (["explain", "--prompt", "x"], "POST /v1/explain", "1 characters, about 2 tokens"),
        (["reload"], "POST /admin/reload", "Reloaded: no option differs; keys, tokens and"),
        (["abort", "--all"], "POST /v1/abort_requests", "0 requests aborted"),
    ],
)
def test_a_command_asks_and_tells(
    router: ScriptedRouter, arguments: list[str], asked: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 0
    assert router.asked[-1][0] == asked
    assert said in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 0
    json.loads(capsys.readouterr().out)


def test_a_request_is_read_from_a_file_or_standard_input(
    router: ScriptedRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.json").write_text('{"prompt": "a"}')
    assert run(["explain", str(tmp_path / "r.json"), "--path", "/v1/completions"]) == 0
    assert router.asked[-1] == ("POST /v1/explain?path=/v1/completions", b'{"prompt": "a"}')
    stream = io.TextIOWrapper(io.BytesIO(b'{"prompt": "b"}'))
    monkeypatch.setattr("sys.stdin", stream)
    assert run(["explain"]) == 0
    assert router.asked[-1][1] == b'{"prompt": "b"}'


def test_tokens(
    router: ScriptedRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("of-the-file\n")
    monkeypatch.setenv("FD_ROUTER_ACCESS_ADMIN_TOKEN", "of-the-environment")
    for arguments in (
        ["--router", router.address],
        ["--token-path", str(tmp_path / "token")],
        ["--router", f"any:typed@{router.address}"],
    ):
        assert run(["status", *arguments]) == 0
    assert list(dict.fromkeys(router.authorizations)) == [
        "Bearer of-the-environment",
        "Bearer of-the-file",
        "Bearer typed",
    ]
    capsys.readouterr()
    assert run(["status", "--token-path", "none"]) == 1
    assert capsys.readouterr().err == "fd-router: error: --token-path: none: no such file or directory\n"


def test_a_request_is_explained_with_its_headers(router: ScriptedRouter) -> None:
    assert run(["explain", "--prompt", "x", "--header", "x-team: a: b", "--header", "X-Session-Id:7"]) == 0
    told = router.headers[-1]
    assert (told["x-team"], told["x-session-id"]) == ("a: b", "7")


@pytest.mark.parametrize("header", ["x-team", "x team: a", ": a", "x: a\r\nb: c", "x: 中"])
def test_a_header_that_is_none(router: ScriptedRouter, header: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "--prompt", "x", "--header", header]) == 2
    assert "is no 'NAME: VALUE'" in capsys.readouterr().err
    assert router.asked == []


@pytest.mark.parametrize("is_terminal", [True, False])
def test_who_waits_at_a_terminal_is_told_for_what(
    router: ScriptedRouter, is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.BytesIO(b'{"prompt": "x"}')
    monkeypatch.setattr(stdin, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stdin))
    assert run(["explain"]) == 0
    line = "The request's body, as JSON; Ctrl-D ends it (or give a file, or --prompt TEXT):\n"
    assert capsys.readouterr().err == (line if is_terminal else "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["drain", "10.0.0.9:1"], 1, "There is nothing at /instances/10.0.0.9%3A1/drain: is that an fd-router"),
        (["abort"], 2, "give ids of requests, or --all (see fd-router abort --help)"),
        (["abort", "--all", "x"], 2, "give ids of requests, or --all"),
        (["status", "--router", "x"], 1, "--router: 'x' is not an address like http://127.0.0.1:30000"),
        (["drain"], 2, "Missing argument 'INSTANCE'"),
    ],
)
def test_errors_are_a_line(
    router: ScriptedRouter, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_doctor_and_the_bundle_take_the_router_of_the_configuration(
    router: ScriptedRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FD_ROUTER_ADDRESS")
    monkeypatch.chdir(tmp_path)
    port = router.address.rpartition(":")[2]
    (tmp_path / "c.yaml").write_text(f"server: {{port: {port}}}\naccess: {{admin-token: 0123456789abcdef}}\n")
    assert run(["doctor", "--config_path", "c.yaml"]) == 1
    said = capsys.readouterr().out
    assert f"✓ the router at {router.url} is up" in said
    assert "Bearer 0123456789abcdef" in router.authorizations
    assert run(["bundle", "--config_path", "c.yaml", "--output", "b.tar.gz"]) == 0
    assert capsys.readouterr().out.startswith("b.tar.gz: machine.txt, environment.txt, configuration.yaml, doctor.txt")
    assert run(["bundle", "--config_path", "c.yaml", "--output", "b.tar.gz"]) == 1
    assert capsys.readouterr().err == "fd-router: error: b.tar.gz: File exists\n"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "Without the log: no configuration was named (--config_path). Add its end, please.\n"),
        ("log: {output: stdout}", "Without the log: it goes to standard output. Add its end, please.\n"),
        ("log: {output: file, path: l.log}", "Without the log: there is no file l.log. Add its end, please.\n"),
        ("log: {output: file, path: there.log}", "router.log\n"),
    ],
)
def test_a_bundle_without_the_log_says_so(
    router: ScriptedRouter,
    config: str | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.log").write_text("a line\n")
    Path("c.yaml").write_text(f"server: {{port: 1}}\n{config}\n")
    where = [] if config is None else ["--config_path", "c.yaml"]
    assert run(["bundle", router.address, *where, "--output", "b.tar.gz"]) == 0
    assert said in capsys.readouterr().out.replace("router.log,", "router.log\n")


def test_the_doctor_takes_another_router(router: ScriptedRouter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", router.address]) == 1
    assert f"✓ the router at {router.url} is up" in capsys.readouterr().out


def test_the_address_is_no_unknown_variable(router: ScriptedRouter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "--port", "1"]) == 0
    assert capsys.readouterr().out == "OK\n"
