"""``init``: what it writes is right, and runs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from fd_router.cli import run
from tests.support.mock_process import ServerProcess
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(name: str = "config.yaml") -> dict[str, dict[str, object]]:
    value: dict[str, dict[str, object]] = yaml.safe_load(Path(name).read_text())
    return value


@pytest.mark.parametrize(
    ("splitwise", "policy", "instances"),
    [
        (splitwise, policy, instances)
        for splitwise, policy, instances in itertools.product(
            (False, True), ("request_num", "cache_aware", "ttft_aware", "random"), (False, True)
        )
    ],
)
def test_every_answer_gives_a_configuration_that_is_right(
    splitwise: bool, policy: str, instances: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--port", "8080", "--splitwise" if splitwise else "--no-splitwise", "--policy", policy]
    if instances:
        both = "prefill=10.0.0.1:8000, decode=[::1]:8001"
        arguments += ["--instances", both if splitwise else "10.0.0.1:8000,http://[::1]:8001"]
    assert run(["init", *arguments]) == 0
    said = capsys.readouterr().out
    assert said.startswith("wrote config.yaml\n")
    assert "fd-router --config_path config.yaml" in said
    assert run(["check-config", "--config_path", "config.yaml"]) == 0
    assert capsys.readouterr().out == "OK\n"
    config = read()
    assert config["server"] == {"port": 8080, "splitwise": splitwise}
    assert Path("register.yaml").exists() is instances
    assert (policy in config["scheduler"].values()) or splitwise


def test_without_a_terminal_it_asks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "deep/folder"]) == 0
    assert read("deep/folder/config.yaml")["server"] == {"port": 30000, "splitwise": False}
    assert "  cd deep/folder\n" in capsys.readouterr().out


def test_what_is_there_stays(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text("mine")
    assert run(["init", "--instances", "10.0.0.1:1"]) == 1
    assert capsys.readouterr().err == "fd-router: error: config.yaml is there already; --force replaces it\n"
    assert not Path("register.yaml").exists()
    assert run(["init", "--force"]) == 0
    assert Path("config.yaml").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--policy", "cach_aware"], 1, "--policy: 'cach_aware' is not one of random, "),
        (["--instances", "a..b:1,10.0.0.1"], 1, "--instances: 'a..b:1': the host is neither an IP address nor a host "),
        (["--instances", "decode=10.0.0.1:1"], 1, "--instances: 'decode=10.0.0.1:1': write mixed=10.0.0.1:8000"),
        (["--splitwise", "--instances", "10.0.0.1:1"], 1, "write prefill=10.0.0.1:8000 or decode=10.0.0.1:8000"),
        (["--port", "0"], 2, "Invalid value for '--port'"),
    ],
)
def test_wrong_answers(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", *arguments]) == code
    assert said in capsys.readouterr().err
    assert not Path("config.yaml").exists()


def test_four_questions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []
    replies = iter(["8100", "y", "prefill=10.0.0.1:1", "cache_aware"])

    def reply(question: str) -> str:
        asked.append(question)
        return next(replies)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", reply)
    assert run(["init"]) == 0
    assert len(asked) == 4
    config = read()
    assert config["server"] == {"port": 8100, "splitwise": True}
    assert config["scheduler"] == {"prefill-policy": "cache_aware", "decode-policy": "request_num"}
    assert read("register.yaml")["instances"] == [{"role": "prefill", "host_ip": "10.0.0.1", "port": 1}]


def test_a_wrong_answer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replies = iter(["8100", "n", "10.0.0.1", "Engine-1:80, [::1]:81", "cach_aware", "cache_aware"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: next(replies))
    assert run(["init"]) == 0
    said = capsys.readouterr().out
    assert "Error: '10.0.0.1': write a host and a port: 10.0.0.1:8000" in said
    assert "Error: 'cach_aware' is not one of random, " in said
    assert [entry["host_ip"] for entry in read("register.yaml")["instances"]] == ["engine-1", "::1"]


def test_it_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "pairs", "--splitwise", "--port", "81"]) == 0
    assert capsys.readouterr().out.partition("Now:\n")[2].split("\n") == [
        "  cd pairs",
        "  fd-router check-config --config_path config.yaml",
        "  fd-router --config_path config.yaml",
        "  fd-router mock --port 8100 --role prefill --router 127.0.0.1:81",
        "  fd-router mock --port 8101 --role decode --router 127.0.0.1:81",
        "  fd-router status --router 127.0.0.1:81",
        "",
    ]
    assert "process_tokens    # fewest prompt tokens to prefill\n" in Path("pairs/config.yaml").read_text()


def test_the_router_runs_with_it(tmp_path: Path) -> None:
    port = free_port()
    assert run(["init", "--port", str(port)]) == 0
    router = ServerProcess("--config_path", "config.yaml", "--host", "127.0.0.1", port=port, cwd=tmp_path)
    try:
        router.wait_until_up()
    finally:
        router.end()
