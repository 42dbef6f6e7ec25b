import io

import pytest
from rich.console import Console

from fd_router.devtools.report.outcomes import Outcome, Result
from fd_router.devtools.report.tables import COLUMNS, tables_of

SERVED = [Outcome(n, 1000, "a", ttft=0.5 + n, seconds=1234.5, cached_tokens=52) for n in range(3)]
RESULTS = [
    Result("request_num", SERVED, 1, 0),
    Result("cache_aware:hit-ratio-weight=2:load-balance-weight=0.5", [*SERVED, Outcome(4, 1, error="503")], 1, 0),
]


def printed(width):
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables_of(RESULTS, console):
        console.print(table)
    return console.export_text()


@pytest.mark.parametrize("width", [60, 79, 80, 100, 160])
def test_every_figure_is_whole_at_every_width(width):
    text = printed(width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    assert words.count("1234") == 2  # a whole request, s
    assert words.count("5.2") == 2
    for column in COLUMNS:
        assert column.name in words
    assert words.count("s") == 5
    assert "%" in words


def test_one_table_where_it_fits():
    assert [len(tables_of(RESULTS, Console(width=width))) for width in (60, 200)] == [3, 1]


def test_failures_are_counted():
    assert printed(160).splitlines()[-1].split()[-2:] == ["4", "1"]
