"""What somebody reads who mistyped: his own words, and what he probably meant."""

from __future__ import annotations

import pytest

from fd_router.cli import run
from fd_router.cli.complaints import as_typed


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--bogus", "No such option '--bogus' (see fd-router --help)"),
        ("--prot 1", "No such option '--prot'; did you mean --port? (see fd-router --help)"),
        ("-prot 1", "No such option '-prot'; did you mean --port? (see fd-router --help)"),
        ("-hots=x", "No such option '-hots'; did you mean --host? (see fd-router --help)"),
        ("--config_pth x", "No such option '--config_pth'; did you mean --config_path? (see fd-router --help)"),
        ("-c x", "No such option '-c'; did you mean --config_path? (see fd-router --help)"),
        ("-x", "No such option '-x' (see fd-router --help)"),
        (
            "-max_attempts 3",
            (
                "No such option '-max_attempts'; it has no flag: give it as FD_ROUTER_PROXY_MAX_ATTEMPTS, or as "
                "proxy.max-attempts in the file of --config_path (FD_ROUTER_CONFIG_PATH) (see fd-router --help)"
            ),
        ),
        (
            "check-config --log-level=x",
            (
                "No such option '--log-level'; it has no flag: give it as FD_ROUTER_LOG_LEVEL, or as log.level in the "
                "file of --config_path (FD_ROUTER_CONFIG_PATH) (see fd-router check-config --help)"
            ),
        ),
        (
            "mock --prefil_tokens_per_sec 3",
            (
                "No such option '--prefil_tokens_per_sec'; did you mean --prefill-tokens-per-sec? (see fd-router mock "
                "--help)"
            ),
        ),
        ("status --port 1", "No such option '--port'; did you mean --router HOST:PORT? (see fd-router status --help)"),
        ("mock --log-level x", "No such option '--log-level' (see fd-router mock --help)"),
        ("chek-config", "No such command 'chek-config'; did you mean 'check-config'? (see fd-router --help)"),
        ("simulat", "No such command 'simulat'; did you mean 'simulate'? (see fd-router --help)"),
        ("c.yaml", "No such command 'c.yaml'; did you mean --config_path c.yaml? (see fd-router --help)"),
        (
            "check-config c.yaml",
            "Got unexpected extra argument (c.yaml); did you mean --config_path c.yaml? (see fd-router check-config ",
        ),
        ("check-config c.txt", "Got unexpected extra argument (c.txt) (see fd-router check-config --help)"),
        ("undrain a c.yaml", "Got unexpected extra argument (c.yaml) (see fd-router undrain --help)"),
        ("completion", "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish (see fd-router completion "),
        ("xyz", "No such command 'xyz' (see fd-router --help)"),
        ("mock --prefill_tokens_per_sec x", "--prefill_tokens_per_sec: 'x' is not a number of at least"),
        ("-config_path", "Option '-config_path' requires an argument. (see fd-router --help)"),
    ],
)
def test_wrong_usage(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fd-router: error: {said}")


@pytest.mark.parametrize("flag", ["-port", "--port"])
def test_a_wrong_value_is_told_with_the_flag_as_it_was_typed(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([flag, "x"]) == 1
    assert f"config: {flag}: server.port: 'x' is not a whole" in capsys.readouterr().err
    assert run(["check-config", flag, "x"]) == 1
    assert capsys.readouterr().out.startswith(f"error: {flag}: server.port: 'x' is not a whole")


def test_a_command_may_have_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check_config", "--port", "1"]) == 0
    assert capsys.readouterr().out == "OK\n"


def test_only_whole_flags_are_taken_for_what_was_typed() -> None:
    assert as_typed("--port: --portable, x--port", ["-port=1"]) == "-port: --portable, x--port"
