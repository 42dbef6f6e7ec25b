"""Programs that the documentation shows are the tested example files, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fd_router.cli import run

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])
EXAMPLES = {path.read_text() for path in (REPOSITORY / "examples").rglob("*.py")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_is_that_of_an_example_file(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert not [block for block in blocks if block not in EXAMPLES]


def test_there_are_such_pages() -> None:
    assert sum("```python" in page.read_text() for page in PAGES) >= 2


def test_the_smallest_policy_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = REPOSITORY / "examples/extend/policy"
    monkeypatch.syspath_prepend(str(folder))
    (tmp_path / "config.yaml").write_text("server: {port: 1}\nscheduler: {policy: 'fewest_tokens:FewestTokens'}\n")
    assert run(["check-config", "--config_path", str(tmp_path / "config.yaml")]) == 0
    assert capsys.readouterr().out == "OK\n"
