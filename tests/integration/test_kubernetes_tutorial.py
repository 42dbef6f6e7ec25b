"""The tutorial for Kubernetes, typed as it stands: before a cluster of processes, since tests have no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.little_cluster import LittleCluster
from tests.support.tutorial import Reader, blocks_of

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "kubernetes.md"


@pytest.mark.slow
def test_every_step(tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
    assert len(blocks) > 10
    with Reader(tmp_path) as reader, LittleCluster(tmp_path) as cluster:
        (tmp_path / "examples").symlink_to(ROOT / "examples")  # as in a clone
        reader.install("kubectl", cluster.program)
        for block in blocks:
            reader.type(block)
