from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from fd_router.cli import run
from fd_router.devtools.mock.engines import DIALECTS
from fd_router.devtools.mock.faults import KINDS, PARAMETERS, Fault
from fd_router.devtools.mock.instance import MockInstance
from fd_router.devtools.mock.manual import ENDPOINTS, OF_DIALECTS
from fd_router.devtools.mock.options import MockOptions

PAGE = Path(__file__).parents[3] / "docs" / "mock.md"


def endpoints(dialect):
    routes = MockInstance(MockOptions(dialect=dialect))._routes
    return {f"{method} {path}" for path, methods in routes.items() for method in methods}


OF_PAIRS = {"POST /mock/kv", "POST /mock/kv/take", "GET /query"}
"""Only prefill and decode instances have these."""


def test_every_endpoint_is_listed():
    assert set(ENDPOINTS) == endpoints("fastdeploy") | OF_PAIRS
    others = set().union(*map(endpoints, DIALECTS))
    assert set(OF_DIALECTS) == others - set(ENDPOINTS)


def test_every_fault_and_parameter_is_listed():
    assert set(KINDS) == set(get_args(get_type_hints(Fault)["kind"]))
    taken = {name for kind in KINDS.values() for name in kind.parameters}
    assert taken == set(PARAMETERS) == set(Fault.__struct_fields__) - {"kind"}


@pytest.mark.parametrize("place", ["--help", "the page"])
def test_help_and_page_list_them_all(place, capsys):
    if place == "--help":
        assert run(["mock", "--help"]) == 0
        text = capsys.readouterr().out
        words = set(text.replace("[", " ").replace("]", " ").replace(",", " ").split())
    else:
        text = PAGE.read_text()
        words = set(text.split("`"))
    assert {*KINDS, *PARAMETERS} <= words
    for endpoint in ENDPOINTS:
        assert endpoint in text
