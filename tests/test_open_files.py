"""The limit of open files, which most shells set far below what a router needs."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mock_process import RouterProcess


@pytest.fixture
def low_limit() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = min(256, hard - 1) if hard != resource.RLIM_INFINITY else 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    yield low
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_router_raises_its_limit_of_open_files_as_far_as_it_may(low_limit: int) -> None:
    with RouterProcess() as router:
        limits = Path(f"/proc/{router.process.pid}/limits").read_text()
    found = re.search(r"Max open files +(\S+) +(\S+)", limits)
    assert found is not None
    assert found[1] == found[2] != str(low_limit)
