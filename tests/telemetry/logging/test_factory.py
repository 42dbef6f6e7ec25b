from __future__ import annotations

import json
from pathlib import Path

import pytest

from fd_router.telemetry.logging.factory import open_log


def test_stdout_gets_the_log_and_stderr_the_errors(capfd: pytest.CaptureFixture[str]) -> None:
    log = open_log()
    log.info("hello")
    log.error("trouble")
    log.close()
    out, err = capfd.readouterr()
    assert out.endswith("logger.go:79: hello\n")
    assert err.startswith("[ERROR] ")
    assert err.endswith("logger.go:79: trouble\n")
    assert "trouble" not in out


def test_a_file_gets_everything(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logs" / "router.log"
    log = open_log(output="file", path=str(path), level="warn")
    log.info("hello")
    log.error("trouble")
    log.close()
    assert path.read_text().endswith("logger.go:79: trouble\n")
    assert "hello" not in path.read_text()
    assert capfd.readouterr() == ("", "")


def test_a_relative_path_is_fixed_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = open_log(output="file")
    monkeypatch.chdir("/")
    log.info("hello")
    log.close()
    assert (tmp_path / "logs" / "router.log").exists()


def test_json(tmp_path: Path) -> None:
    log = open_log(output="file", format="json", path=str(tmp_path / "router.log"))
    log.info("hello")
    log.close()
    assert json.loads((tmp_path / "router.log").read_text())["message"] == "hello"


def test_a_full_disk_is_told_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    log = open_log(output="file", path="/dev/full")
    log.info("hello")
    log.info("hello")
    log.close()
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "/dev/full" in err
    assert "No space left" in err
    assert log.lines_lost == 2
