"""The tutorials, typed as they stand: every command succeeds, and says what the page says that it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tutorial import Reader, blocks_of

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(page.name for page in TUTORIALS.glob("*.md") if ".zh" not in page.name))
def test_a_tutorial(name: str, tmp_path: Path) -> None:
    blocks = blocks_of(TUTORIALS / name)
    assert len(blocks) > 4
    with Reader(tmp_path) as reader:
        for block in blocks:
            reader.type(block)
