from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fd_router.instances.registration import Registration, parse_registration
from fd_router.instances.registry import Registry
from fd_router.messages import Request, RequestHead, Routes

Ask = Callable[..., Awaitable[tuple[int, Any]]]


class FakeLog:
    """Keeps (level, message) pairs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, message: str) -> None:
        self.lines.append(("info", message))

    def warn(self, message: str) -> None:
        self.lines.append(("warn", message))

    def error(self, message: str) -> None:
        self.lines.append(("error", message))


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def registry() -> Registry:
    return Registry(clock=lambda: 0.0, log=FakeLog())


@pytest.fixture
def describe() -> Callable[..., Registration]:
    def describe(port: int = 8000, role: str = "mixed", **more: Any) -> Registration:
        return parse_registration({"role": role, "host_ip": "10.0.0.1", "port": port, **more})

    return describe


@pytest.fixture
def ask() -> Ask:
    """Send one request to ``routes``; return the status and the decoded JSON body."""

    async def ask(routes: Routes, method: str, path: str, *, query: str = "", body: bytes = b"") -> tuple[int, Any]:
        response = await routes[path][method](Request(RequestHead(method, path, query), body))
        assert response.content_type == "application/json"
        return response.status, json.loads(response.body)

    return ask
