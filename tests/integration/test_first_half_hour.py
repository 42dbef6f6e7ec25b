"""The first half hour, typed as its page says: the demo, a fleet, keys, a killed instance, a policy of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tutorial import Reader, blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "first-half-hour.md"


@pytest.mark.slow
def test_every_step(tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
    assert len(blocks) > 10
    with Reader(tmp_path) as reader:
        for block in blocks:
            reader.type(block)
