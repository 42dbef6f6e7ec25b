from __future__ import annotations

from pathlib import Path

import pytest

from fd_router.cli import run


@pytest.mark.parametrize(("output", "said"), [("file", "fd-router: the log is {0}/logs/router.log\n"), ("stdout", "")])
def test_where_the_log_is_is_said_once(
    output: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fd_router.app.process.run", lambda *_, **__: 0)
    (tmp_path / "c.yaml").write_text(f"server: {{port: 1}}\nlog: {{output: {output}}}\n")
    assert run(["--config_path", "c.yaml"]) == 0
    assert capsys.readouterr() == ("", said.format(tmp_path))
