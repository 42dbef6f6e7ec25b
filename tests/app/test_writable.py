from __future__ import annotations

import os
from pathlib import Path

import pytest

from fd_router.app.writable import unwritable
from fd_router.config.loading import Config, LogConfig, ManagerConfig
from fd_router.config.telemetry import TelemetryConfig


def problems(state: str = "", log: str = "", output: str = "file") -> tuple[str, ...]:
    logging = LogConfig(output=output, path=log or "log")
    return unwritable(Config(manager=ManagerConfig(state_path=state), log=logging))


def test_what_can_be_written_is_no_problem_and_stays_unwritten(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    assert problems(str(tmp_path / "new" / "deep" / "state.json"), str(tmp_path / "old")) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert problems(log="/nowhere/log", output="stdout") == ()


def test_a_folder_and_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state, log = str(tmp_path), str(tmp_path / "file" / "router.log")
    assert problems(state, log) == (
        f"manager.state-path: {state!r} can't be written: it is a directory; name a file in it",
        f"log.path: {log!r} can't be written: {tmp_path / 'file'} is no directory",
    )


def test_what_the_user_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").write_text("x")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, who runs tests in containers, may everything
    monkeypatch.setattr("getpass.getuser", lambda: "somebody")
    old, new = str(tmp_path / "old"), str(tmp_path / "a" / "new")
    assert problems(old, new) == (
        f"manager.state-path: {old!r} can't be written: the user somebody may not",
        f"log.path: {new!r} can't be written: the user somebody may not make files in {tmp_path}",
    )


def test_a_user_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr("getpass.getuser", nameless)
    assert f"the user {os.getuid()} may not" in problems(str(tmp_path / "new"))[0]


def test_the_folder_of_recordings(tmp_path: Path) -> None:
    def found(folder: Path) -> tuple[str, ...]:
        return unwritable(Config(telemetry=TelemetryConfig(recording_folder=str(folder))))

    assert found(tmp_path) == found(tmp_path / "new" / "deep") == ()
    file = tmp_path / "file"
    file.write_text("")
    expected = f"telemetry.recording-folder: {str(file)!r} can't be written: {file} is no directory"
    assert found(file) == (expected,)
