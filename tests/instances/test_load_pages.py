"""Where the page is that an instance's load is read from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fd_router.engines.sglang import SglangDialect
from fd_router.instances import load_pages
from fd_router.instances.instance import Instance
from fd_router.instances.load_pages import LoadPages
from fd_router.instances.registration import Registration


class FakePools:
    """Pools that are their addresses."""

    def __init__(self) -> None:
        self.retired: list[str] = []

    def of(self, address: Any) -> Any:
        return address

    def retire(self, key: str) -> None:
        self.retired.append(key)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    async def fetch(pool: Any, method: str, path: str, *, time_limit: float) -> tuple[int, bytes]:
        asked.append(f"{pool.key}{path}")
        return (404, b"") if path.startswith("/v1/loads") and pool.port == 1 else (200, b"page")

    monkeypatch.setattr(load_pages, "fetch", fetch)
    return asked


async def test_metrics_have_a_port_of_their_own(asked: list[str], describe: Callable[..., Registration]) -> None:
    pages, instance = LoadPages(FakePools()), Instance(describe(2, metrics_port=9))  # type: ignore[arg-type]
    assert await pages.get(instance, 1.0) == (200, b"page")
    assert asked == ["10.0.0.1:9/metrics"]


async def test_a_page_among_the_requests_paths(asked: list[str], describe: Callable[..., Registration]) -> None:
    pages, dialect = LoadPages(FakePools()), SglangDialect()  # type: ignore[arg-type]
    await pages.get(Instance(describe(2, metrics_port=9), dialect), 1.0)
    assert asked == ["10.0.0.1:2/v1/loads?include=core"]


async def test_what_an_older_version_lacks_is_asked_for_once(
    asked: list[str], describe: Callable[..., Registration]
) -> None:
    pools = FakePools()
    pages, instance = LoadPages(pools), Instance(describe(1, metrics_port=9), SglangDialect())  # type: ignore[arg-type]
    for _ in range(3):
        assert await pages.get(instance, 1.0) == (200, b"page")
    assert asked == ["10.0.0.1:1/v1/loads?include=core", *["10.0.0.1:9/metrics"] * 3]
    pages.forget(instance)
    assert pools.retired == ["10.0.0.1:9"]
    await pages.get(instance, 1.0)
    assert asked[-2:] == ["10.0.0.1:1/v1/loads?include=core", "10.0.0.1:9/metrics"]
