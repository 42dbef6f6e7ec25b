from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import fd_router
from fd_router.admission.keys import hash_key, make_key, parse_keys, read_keys
from fd_router.cli import run
from fd_router.cli.go_forms import go_forms
from fd_router.config.loading import Config
from fd_router.config.reference import reference
from fd_router.errors import FdRouterError

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("FD_ROUTER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Stand:
    """Stands where the app, the mock and the demo stand, and notes how it is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.error: BaseException | None = None
        self.code = 0

    def instead_of(self, name: str) -> Callable[..., int]:
        def called(*arguments: Any, **named: Any) -> int:
            self.calls.append((name, arguments, named))
            if self.error is not None:
                raise self.error
            return self.code

        return called

    @property
    def config(self) -> Config:
        ((name, (config, _warnings), _),) = self.calls
        assert name == "process"
        assert isinstance(config, Config)
        return config


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    made = Stand()
    for module in ("app.process", "devtools.mock.run", "devtools.demo.demo"):
        monkeypatch.setattr(f"fd_router.{module}.run", made.instead_of(module.rpartition(".")[2]))
    return made


Errors = Callable[[Sequence[str], int], list[str]]


@pytest.fixture
def errors(capsys: pytest.CaptureFixture[str]) -> Errors:
    def errors_of(arguments: Sequence[str], code: int) -> list[str]:
        assert run(arguments) == code
        output = capsys.readouterr()
        assert not output.out
        lines = output.err.splitlines()
        assert all(line.startswith("fd-router: error: ") for line in lines)
        return [line.removeprefix("fd-router: error: ") for line in lines]

    return errors_of


# Starting the router


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "30000"], ["--port=30000"], ["-port", "30000"], ["-port=30000"],
    ],
)  # fmt: skip
def test_starts_the_router_with_each_form_of_a_flag(stand: Stand, arguments: list[str]) -> None:
    assert run(arguments) == 0
    assert stand.config.server.port == 30000
    assert stand.config.server.splitwise is False


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--splitwise"], True), (["-splitwise"], True), (["-splitwise=true"], True), (["--splitwise=T"], True),
        (["--splitwise=1"], True), (["--splitwise=false"], False), (["-splitwise=F"], False),
        (["--no-splitwise"], False), ([], True),
    ],
)  # fmt: skip
def test_splitwise_in_each_form_wins_over_the_file(
    stand: Stand, tmp_path: Path, arguments: list[str], expected: bool
) -> None:
    (tmp_path / "c.yaml").write_text("server: {port: 1, splitwise: true}")
    assert run([*arguments, "--config_path", "c.yaml"]) == 0
    assert stand.config.server.splitwise is expected


@pytest.mark.parametrize("flag", ["--config_path", "--config-path", "-config_path", "-config-path"])
def test_the_file_the_environment_and_the_flags_come_together(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    (tmp_path / "c.yaml").write_text("server: {port: 1, host: a, name: n}\nlog: {level: warn}\nserver_: {}\n")
    monkeypatch.setenv("FD_ROUTER_SERVER_HOST", "b")
    assert run([flag, "c.yaml", "-host", "c"]) == 0
    server = stand.config.server
    assert (server.port, server.host, server.name, stand.config.log.level) == (1, "c", "n", "warn")
    assert list(stand.calls[0][1][1]) == ["c.yaml:3: unknown section 'server-', ignored; did you mean 'server'?"]


def test_the_environment_can_name_the_file_and_a_flag_another(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text("server: {port: 1}")
    (tmp_path / "b.yaml").write_text("server: {port: 2}")
    monkeypatch.setenv("FD_ROUTER_CONFIG_PATH", "a.yaml")
    assert run([]) == 0
    assert run(["--config_path", "b.yaml"]) == 0
    assert [call[1][0].server.port for call in stand.calls] == [1, 2]


def test_the_exit_code_is_the_apps(stand: Stand) -> None:
    stand.code = 3
    assert run(["--port", "1"]) == 3


@pytest.mark.parametrize(
    ("arguments", "splitwise", "ignored"),
    [
        (["--port", "1", "x"], False, "x"),
        (["-port=1", "--splitwise", "false"], True, "false"),
        (["--port", "1", "x", "--splitwise"], False, "x --splitwise"),
        (["--port", "1", "--", "x"], False, "x"),
        (["-port", "1", "-V=false"], False, ""),
        (["-port", "1", "--"], False, ""),
    ],
)
def test_bare_words_behind_a_flag_are_ignored_and_told(
    stand: Stand, capsys: pytest.CaptureFixture[str], arguments: list[str], splitwise: bool, ignored: str
) -> None:
    assert run(arguments) == 0
    assert (stand.config.server.port, stand.config.server.splitwise) == (1, splitwise)
    told = f"fd-router: warning: ignored, as the Go program does: {ignored}\n" if ignored else ""
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("flag", ["-V", "--V", "--V=true", "-V=true", "-version=true", "--version=1", "-version"])
def test_the_version_in_each_of_gos_forms(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert run([flag]) == 0
    assert capsys.readouterr().out.startswith("fd-router ")


def test_the_options_of_fastdeploys_python_router(stand: Stand) -> None:
    flags = ["--request-timeout-secs", "1800", "--preempt-retry-count=0", "--preempt-retry-exclude-decode"]
    assert run(["--port", "1", *flags]) == 0
    proxy = stand.calls[0][1][0].proxy
    assert (proxy.request_timeout_secs, proxy.preempt_retry_count) == (1800.0, 0)
    assert proxy.preempt_retry_exclude_decode is True


def test_go_forms_leave_everything_else_alone() -> None:
    arguments = ["-V", "-h", "x", "-", "--", "-p", "--port", "-1", "-portx", "--unknown=-port", "--fault", "a=b"]
    assert go_forms(arguments) == arguments
    assert go_forms(["-config_path=a=b", "-version"]) == ["--config-path=a=b", "--version"]


# Errors


def test_without_a_port_the_refusal_of_the_go_program(stand: Stand, errors: Errors) -> None:
    (line,) = errors([], 1)
    assert line.startswith("Failed to load config: failed to set router listen port")
    assert not stand.calls


def test_every_problem_is_a_line(stand: Stand, tmp_path: Path, errors: Errors) -> None:
    (tmp_path / "c.yaml").write_text("server:\n  port: x\n  mode: y\n")
    first, second = errors(["--config_path", "c.yaml"], 1)
    assert first.startswith("Failed to load config: c.yaml:2: server.port: 'x'")
    assert second.startswith("Failed to load config: c.yaml:3: server.mode: 'y'")
    assert not stand.calls


def test_an_unreadable_file_is_one_line(stand: Stand, errors: Errors) -> None:
    assert errors(["--config_path", "none.yaml"], 1) == [
        "Failed to load config: failed to read config file: none.yaml: no such file or directory"
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FdRouterError("port 1 is in use"), "port 1 is in use"),
        (PermissionError(13, "Permission denied", "logs/router.log"), "logs/router.log: Permission denied"),
        (OSError("no more"), "no more"),
        (OSError(98, "address already in use"), "address already in use"),
    ],
)
def test_what_the_app_raises_is_one_line(stand: Stand, errors: Errors, error: Exception, expected: str) -> None:
    stand.error = error
    assert errors(["--port", "1"], 1) == [expected]


def test_ctrl_c_is_130(stand: Stand) -> None:
    stand.error = KeyboardInterrupt()
    assert run(["--port", "1"]) == 130


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--prot", "1"], "No such option '--prot'"),
        (["-port"], "Option '-port' requires an argument"),
        (["chekc-config"], "No such command 'chekc-config'"),
        (["-splitwise=maybe"], "-splitwise: 'maybe' is not true or false"),
        (["-V=maybe"], "-V: 'maybe' is not true or false"),
        (["--port", "1", "check-config"], "--port belongs behind 'check-config'"),
        (["--config_path", "x", "mock"], "--config_path belongs behind 'mock'"),
        (["mock", "--port", "x"], "--port: 'x' is not a whole number"),
        (["demo", "--instances", "0"], "Invalid value for '--instances'"),
    ],
)
def test_wrong_usage_is_one_line_and_2(stand: Stand, errors: Errors, arguments: list[str], expected: str) -> None:
    (line,) = errors(arguments, 2)
    assert line.startswith(expected)
    assert "--help)" in line
    assert not stand.calls


# What is said


@pytest.mark.parametrize("flag", ["--version", "-V", "-version"])
def test_version(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert run([flag]) == 0
    line = capsys.readouterr().out
    python = ".".join(map(str, sys.version_info[:3]))
    assert line.startswith(f"fd-router {fd_router.__version__} (Python {python}, uvloop ")


@pytest.mark.parametrize("flag", ["--help", "-h", "-help"])
def test_help_tells_the_flags_the_commands_and_where_the_rest_is(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert run([flag]) == 0
    text = capsys.readouterr().out
    for word in ("--port", "--host", "--splitwise", "--config_path", "-V", "check-config", "mock", "demo"):
        assert word in text
    assert "FD_ROUTER_<SECTION>_<KEY>" in text
    assert "docs/configuration.md" in text
    assert "config-reference" not in text


def test_the_reference_page_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config-reference"]) == 0
    assert capsys.readouterr().out == reference()


# check-config


def test_check_config_says_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "-port", "1"]) == 0
    assert capsys.readouterr().out == "OK\n"


def test_check_config_says_everything(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("instances: [{role: decode, host_ip: 127.0.0.1, port: 1}, {role: mixed, port: 2}]")
    (tmp_path / "c.yaml").write_text(
        "server:\n  prot: 1\nscheduler:\n  policy: fastest\nmanager:\n  register-path: r.yaml\n"
    )
    assert run(["check-config", "--config_path", "c.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "warning: c.yaml:2: unknown key 'server.prot', ignored; did you mean 'server.port'?"
    assert lines[1].startswith("error: c.yaml:4: scheduler.policy: 'fastest' is not one of random, ")
    assert lines[2].startswith("error: Failed to load config: failed to set router listen port")
    assert lines[3] == "error: r.yaml:1: Failed to register instance from index 0: only MIXED instances are allowed"
    assert lines[4].startswith("error: r.yaml:1: Failed to register instance from index 1: ")
    assert "host_ip is required" in lines[4]
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no such file or directory"),
        ("[1]", "'instances'"),
        ("workers: []", "No instances"),
        ("instances: [", "YAML"),
    ],
)
def test_check_config_judges_the_register_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / "r.yaml").write_text(text)
    monkeypatch.setenv("FD_ROUTER_MANAGER_REGISTER_PATH", "r.yaml")
    assert run(["check-config", "--port", "1"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: ")
    assert "r.yaml" in line
    assert expected in line


def test_the_mode_of_the_router_decides_which_roles_are_right(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "r.yaml").write_text("instances: [{role: decode, host_ip: 127.0.0.1, port: 1}]")
    (tmp_path / "c.yaml").write_text("server: {port: 1}\nmanager: {register-path: r.yaml}\n")
    assert run(["check-config", "--config_path", "c.yaml", "--splitwise"]) == 0
    assert run(["check-config", "--config_path", "c.yaml"]) == 1
    assert "only MIXED" in capsys.readouterr().out


def test_show_prints_a_file_that_is_right(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FD_ROUTER_LOG_LEVLE", "warn")
    assert run(["check-config", "--port", "1", "--show"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# warning: unknown environment variable FD_ROUTER_LOG_LEVLE")
    assert "  port: 1  # --port\n" in text
    assert text.endswith("# OK\n")
    (tmp_path / "shown.yaml").write_text(text)
    monkeypatch.delenv("FD_ROUTER_LOG_LEVLE")
    assert run(["check-config", "--config_path", "shown.yaml"]) == 0
    assert capsys.readouterr().out == "OK\n"


@pytest.mark.parametrize("example", ["run_with_config", "run_with_default_workers", "custom_policy", "pd_cache_aware"])
def test_the_examples_are_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, example: str
) -> None:
    monkeypatch.chdir(REPOSITORY / "examples" / example)
    assert run(["check-config", "--config_path", "config/config.yaml"]) == 0
    assert capsys.readouterr().out == "OK\n"


# mock and demo


def test_mock_gets_its_options(stand: Stand) -> None:
    arguments = ["mock", "--port", "0", "--role", "prefill", "--router", "[::1]:80", "--prefill_tokens_per_sec", "5"]
    assert run([*arguments, "--fault", "hang_before_head", "--fault", "status:code=500,count=2"]) == 0
    ((name, (options,), _),) = stand.calls
    assert name == "run"
    assert (options.port, options.role, options.router, options.prefill_tokens_per_sec) == (
        0,
        "prefill",
        "[::1]:80",
        5.0,
    )
    assert options.fault == ("hang_before_head", "status:code=500,count=2")
    assert options == type(options)(
        role="prefill", router="[::1]:80", prefill_tokens_per_sec=5.0, fault=options.fault
    )  # the rest are its defaults


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_mock_help_is_made_from_the_declarations(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mock", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--role mixed|prefill|decode" in text
    assert "[default: 5 s]" in text


def test_demo_gets_its_options(stand: Stand) -> None:
    assert run(["demo"]) == 0
    assert run(["demo", "--keep", "--instances", "4", "--port", "8080", "--splitwise"]) == 0
    assert [(name, named) for name, _, named in stand.calls] == [
        ("demo", {"keep": False, "instances": None, "port": 0, "splitwise": False}),
        ("demo", {"keep": True, "instances": 4, "port": 8080, "splitwise": True}),
    ]


# As a process


def start(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "fd_router", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_python_m_fd_router_ends_with_the_code_and_without_a_traceback() -> None:
    done = start("--port", "x")
    assert done.returncode == 1
    assert (
        done.stderr
        == "fd-router: error: Failed to load config: --port: server.port: 'x' is not a whole number from 1 to 65535\n"
    )
    assert not done.stdout


def test_the_command_line_imports_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys, fd_router.cli as cli\n"
        "assert cli.run(['check-config', '--port', '1']) == 0\n"
        "late = {'rich', 'yaml', 'uvloop', 'fd_router.app.router', 'prometheus_client'}\n"
        "print(sorted(late & set(sys.modules)))\n"
    )
    assert start(code=code).stdout == "OK\n[]\n"


def test_a_new_key_is_told_apart_from_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["make-key", "team-a"]) == 0
    shown = capsys.readouterr()
    (key,) = shown.err.split()
    (read,) = parse_keys(f"keys:\n{shown.out}", ["normal"])
    assert (read.name, read.sha256) == ("team-a", hash_key(key))
    assert key not in shown.out
    assert run(["make-key", "two words"]) == 1
    assert "the new key: name: up to 64 letters" in capsys.readouterr().err


def test_keys_can_be_appended_to_a_file_that_is_new(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    for name in ("one", "two"):
        with path.open("a") as file:
            subprocess.run(
                [sys.executable, "-m", "fd_router", "make-key", name],
                stdout=file,
                stderr=subprocess.DEVNULL,
                check=True,
            )
    assert [key.name for key in read_keys(path, ["normal"])] == ["one", "two"]


def test_a_key_is_hashed_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\n"))
    assert run(["hash-key"]) == 0
    assert capsys.readouterr().out == f"{hash_key(key)}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    assert run(["hash-key"]) == 1
    shown = capsys.readouterr()
    assert "no API key" in shown.err
    assert "secret" not in shown.out + shown.err


def test_check_config_reads_the_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {port: 1}\naccess: {keys-path: keys.yaml, register-networks: x}\n")
    assert run(["check-config", "--config_path", "config.yaml"]) == 1
    shown = capsys.readouterr().out
    assert "error: keys.yaml: can't read the API keys: no such file or directory" in shown
    assert "error: config.yaml:2: access.register-networks: 'x' does not appear" in shown


def test_instances_and_policies_are_named_on_the_command_line(capsys) -> None:
    flags = ["--port", "1", "--splitwise", "--prefill-policy", "cache_aware", "--instance", "prefill=http://a:1"]
    assert run(["check-config", "--show", *flags, "--instance", "decode=b:2"]) == 0
    shown = capsys.readouterr().out
    assert "prefill=http://a:1, decode=b:2" in shown
    assert "cache_aware" in shown


def test_an_instance_that_cannot_be_is_told_with_the_flags_value(capsys) -> None:
    assert run(["check-config", "--port", "1", "--instance", "prefill=http://a:1"]) == 1
    assert "manager.instance: 'prefill=http://a:1': only MIXED instances are allowed" in "".join(capsys.readouterr())
