"""The tutorials, typed as they stand: every command succeeds, and says what the page says that it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tutorial import Reader, blocks_of

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
TUTORIALS = [page for page in sorted(FOLDER.glob("*.md")) if ".zh" not in page.name and page.stem != "kubernetes"]


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.name)
def test_a_tutorial(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    assert len(blocks) > 4
    with Reader(tmp_path) as reader:
        for block in blocks:
            reader.type(block)
