"""Whatever the router warns of, calls an error, or answers as one, is on the page for trouble, and no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fd_router.errors import UpstreamError
from tests.docs.sources import BLANK, WITHOUT_TEXT, pattern_of, said

PAGES = Path(__file__).parents[2] / "docs"
LANGUAGES = [page.name for page in sorted(PAGES.glob("troubleshooting*.md"))]


def spans(page: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", (PAGES / page).read_text())


@pytest.mark.parametrize("page", LANGUAGES)
def test_every_warning_and_error_line_is_there(page: str) -> None:
    told = spans(page)
    lines = sorted((file, text) for file, text in said().lines if text.strip(BLANK))
    assert len(lines) > 30
    patterns = [(line, pattern_of(line[1])) for line in lines]
    assert not [line for line, pattern in patterns if not any(pattern.search(span) for span in told)]


@pytest.mark.parametrize("page", LANGUAGES)
def test_every_reason_not_to_start_is_there(page: str) -> None:
    told = spans(page)
    texts = sorted(text for text in said().reasons if text.strip(BLANK))
    assert len(texts) >= 3
    assert not [text for text in texts if not any(pattern_of(text).search(span) for span in told)]


@pytest.mark.parametrize("page", LANGUAGES)
def test_every_error_code_is_there_and_no_other(page: str) -> None:
    text = (PAGES / page).read_text()
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, |、)?)+) \| [\d, 、]+ \|", text, re.MULTILINE)
    told = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row)}
    assert len(told) > 30
    assert told == said().codes | set(UpstreamError.REASONS)


def test_lines_without_a_text_of_their_own_are_known() -> None:
    assert {file for file, text in said().lines if not text.strip(BLANK)} <= WITHOUT_TEXT.keys()


@pytest.mark.parametrize("page", LANGUAGES)
def test_the_page_quotes_nothing_that_is_not_said(page: str) -> None:
    """Each row of a table whose head tells what is said begins with words of the source."""
    known = said().fragments
    quoted = []
    for table in (PAGES / page).read_text().split("\n\n"):
        if re.match(r"\| (it says|the log says|输出|日志内容) \|", table):
            quoted += [span for row in table.splitlines()[2:] for span in re.findall("`([^`]+)`", row.split(" | ")[0])]
    assert len(quoted) > 40
    begins = {span: span.partition("…")[0].strip() for span in quoted}
    assert not [
        span for span in quoted if not any(part in span or (begins[span] and begins[span] in part) for part in known)
    ]
