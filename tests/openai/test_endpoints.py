"""The table of endpoints, and what of a third party is taken into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fd_router.api.access import is_own
from fd_router.app.endpoints import endpoints_of
from fd_router.config.sections import ServerConfig
from fd_router.errors import ConfigError
from fd_router.openai.endpoints import BUILT_IN, open_endpoints, opened
from fd_router.openai.reference import reference

SOURCE = """
from fd_router.openai.endpoints import Endpoint

EMBEDDINGS = Endpoint(path="/v1/embeddings", mode="any_instance")
METRICS = Endpoint(path="/metrics")
BELOW = Endpoint(path="/admin/anything")
CHAT = Endpoint(path="/v1/chat/completions")
ODD = Endpoint(path="v1/odd")
MODE = Endpoint(path="/v1/mode", mode="any")  # type: ignore[arg-type]
PATTERN = Endpoint(path="/v1/{id}")
TEXT = "/v1/text"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_endpoints.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return str(tmp_path)


def test_the_routers_own_and_one_more(folder: str) -> None:
    assert open_endpoints((), "", is_own) == BUILT_IN
    *own, one = open_endpoints(("my_endpoints:EMBEDDINGS",), folder, is_own)
    assert own == [endpoint for endpoint in BUILT_IN if endpoint.path != one.path]
    assert (one.method, one.path, one.mode) == ("POST", "/v1/embeddings", "any_instance")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("METRICS", "/metrics is answered by the router itself"),
        ("BELOW", "/admin/anything is answered by the router itself"),
        ("CHAT", "there is an endpoint POST /v1/chat/completions already"),
        ("ODD", "its path 'v1/odd' must begin with / and be a plain path"),
        ("MODE", "its mode 'any' is none of generate, stateful, stored, any_instance"),
        ("PATTERN", "must begin with / and be a plain path"),
        ("TEXT", "it is no fd_router.openai.endpoints.Endpoint"),
        ("LOST", "has no 'LOST'"),
    ],
)
def test_what_can_not_be_one(folder: str, name: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_endpoints((f"my_endpoints:{name}",), folder, is_own)
    assert str(caught.value).startswith(f"server.endpoints: 'my_endpoints:{name}': ")
    assert why in str(caught.value)


def test_the_table_names_each_path_once() -> None:
    named = [(endpoint.method, endpoint.path) for endpoint in BUILT_IN]
    assert len(named) == len(set(named))
    assert not [endpoint.path for endpoint in BUILT_IN if is_own(endpoint.path)]
    assert all(endpoint.kind and endpoint.about for endpoint in BUILT_IN)


def test_all_are_open_by_default() -> None:
    assert endpoints_of(ServerConfig()) == BUILT_IN


def test_some_are_open_by_kind_or_path() -> None:
    names = [endpoint.path for endpoint in opened(("chat", "/v1/embeddings"))]
    assert names == ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


@pytest.mark.parametrize("name", ["embedings", "/v1/embedings"])
def test_a_name_that_is_neither(name: str) -> None:
    with pytest.raises(ConfigError, match=r"server.open-endpoints: '.*embedings' is no kind .*embeddings"):
        opened((name,))


def test_the_page_is_made_from_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "endpoints.md"
    assert page.read_text(encoding="utf-8") == reference(), "run: make docs"
