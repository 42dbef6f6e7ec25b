from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fd_router.http.messages import Request, RequestHead, Routes
from fd_router.instances.registration import Registration, parse_registration
from fd_router.instances.registry import Registry
from tests.support.fake_log import FakeLog
from tests.support.live import live_config

Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


class FakeClock:
    """Stands still unless a test moves ``now``."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(clock: FakeClock) -> Registry:
    return Registry(clock=clock, log=FakeLog(), live=live_config())


@pytest.fixture
def describe() -> Callable[..., Registration]:
    def describe(port: int = 8000, role: str = "mixed", **more: Any) -> Registration:
        return parse_registration({"role": role, "host_ip": "10.0.0.1", "port": port, **more})

    return describe


@pytest.fixture
def ask() -> Ask:
    """Send one request to ``routes``; return the status and the decoded JSON body."""

    async def ask(
        routes: Routes, method: str, path: str, *, query: str = "", body: bytes = b"", authorization: bytes = b""
    ) -> tuple[int, Any]:
        response = await routes[path][method](
            Request(RequestHead(method, path, query, authorization=authorization), body)
        )
        assert response.content_type == "application/json"
        return response.status, json.loads(response.body)

    return ask
