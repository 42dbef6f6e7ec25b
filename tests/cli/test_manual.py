"""The manual page and the completion of shells, made from the commands that there are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fd_router.cli import run
from fd_router.cli.router import COMMANDS, router
from tests.support.mock_process import SOURCES


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["man-page"]) == 0
    return capsys.readouterr().out


def commands() -> dict[str, click.Command]:
    context = click.Context(router)
    found = {name: router.get_command(context, name) for name in COMMANDS}
    return {name: command for name, command in found.items() if command is not None and not command.hidden}


def test_every_command_and_option_is_there(page: str) -> None:
    text = page.replace(r"\-", "-")
    for name, command in commands().items():
        assert f".SS fd-router {name} [OPTIONS]" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[-1] in text
    assert "config-reference" not in text
    assert ".SH EXIT STATUS" in text


def test_nothing_begins_a_request_by_accident(page: str) -> None:
    known = {".TH", ".SH", ".SS", ".TP", ".PP", ".br", ".B"}
    assert {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))} <= known


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
def test_groff_has_nothing_to_say_about_it(page: str) -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-Wbreak"], input=page, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "SYNOPSIS" in re.sub(r"\x1b\[\d*m|.\x08", "", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_FD_ROUTER_COMPLETE" in capsys.readouterr().out
    assert run(["completion", "tcsh"]) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fd-router dr", "drain"),
        ("fd-router mock --prefill-tok", "--prefill-tokens-per-sec"),
        ("fd-router --spl", "--splitwise"),
    ],
)
def test_what_is_completed(words: str, expected: str, tmp_path: Path) -> None:
    environment = {
        "PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"], "_FD_ROUTER_COMPLETE": "bash_complete",
        "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1),
    }  # fmt: skip
    command = [sys.executable, "-c", "from fd_router.cli import main; main()"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert f"plain,{expected}" in done.stdout.splitlines()
