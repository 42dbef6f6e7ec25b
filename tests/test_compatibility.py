"""The comparison in docs/compatibility.md, row by row, against the running program.

A check is a function called with the stage and the row; the page's last column has its name, or says why there is none.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import compatibility_checks, compatibility_inference
from tests.support.compatibility import Row, Stage, rows

VERDICTS = {"same", "better on purpose"}
ROWS = rows()
CHECKS = compatibility_checks.CHECKS | compatibility_inference.CHECKS
NOT_CHECKED = "not checked"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.item[:60]) for row in ROWS if not row.check.startswith(NOT_CHECKED)]
)
def test_a_row_tells_what_the_program_does(stage: Stage, row: Row) -> None:
    CHECKS[row.check](stage, row)


def test_the_page_is_whole() -> None:
    assert len(ROWS) > 190
    assert {row.verdict for row in ROWS} == VERDICTS
    checks, reasons = {row.check for row in ROWS}, {row.check for row in ROWS if row.check.startswith(NOT_CHECKED)}
    assert checks - reasons == set(CHECKS)  # each is used, and each name is one's
    assert all(len(reason.partition(": ")[2]) > 10 for reason in reasons)
    assert sum(row.check in reasons for row in ROWS) < 40
