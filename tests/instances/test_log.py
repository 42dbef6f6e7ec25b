from __future__ import annotations

import re

import pytest

from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance
from fd_router.instances.log import log_change

URL = r"((?:https?://)?[A-Za-z0-9.-]+(?::\d+)?)"


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        (ChangeKind.DOWN, rf"Removed unhealthy \w+ instance:\s*{URL}"),
        (ChangeKind.SUSPECT, rf"{URL}\s+is not healthy"),
        (ChangeKind.NOT_UP, rf"{URL}\s+is not healthy"),
        (ChangeKind.UP, rf"{URL}\s+is healthy"),
    ],
)
def test_scripts_find_the_url_in_the_line(log, describe, kind: ChangeKind, pattern: str) -> None:
    log_change(log, Change(kind, Instance(describe(8000)), "connection refused", 2))
    [(_level, line)] = log.lines
    found = re.search(pattern, line)
    assert found is not None
    assert found.group(1) == "http://10.0.0.1:8000"


@pytest.mark.parametrize("kind", [ChangeKind.ADDED, ChangeKind.DEAD])
def test_what_others_tell_has_no_line(log, describe, kind: ChangeKind) -> None:
    log_change(log, Change(kind, Instance(describe(8000))))
    assert log.lines == []


def test_every_other_change_has_one(log, describe) -> None:
    for kind in ChangeKind:
        log_change(log, Change(kind, Instance(describe(8000)), "why", 0))
    assert len(log.lines) == len(ChangeKind) - 2
