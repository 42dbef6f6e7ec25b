from __future__ import annotations

import pytest

from fd_router.http.handlers import find_route
from fd_router.http.messages import Request, Response, Routes


async def handler(_request: Request) -> Response:
    raise AssertionError


ROUTES: Routes = {path: {"GET": handler} for path in ("/", "/a", "/a/{key}", "/a/{key}/drain", "/a/plain", "/health")}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/health", "/health"),
        ("/a", "/a"),
        ("/a/10.0.0.1:80", "/a/{key}"),
        ("/a/[::1]:80", "/a/{key}"),
        ("/a/plain", "/a/plain"),
        ("/a/x/drain", "/a/{key}/drain"),
        ("/a/{key}", "/a/{key}"),
        ("/a/", ""),
        ("/a//drain", ""),
        ("/a/x/", ""),
        ("/a/x/drain/", ""),
        ("/a/x/y/drain", ""),
        ("/a/x/undrain", ""),
        ("/b/x", ""),
        ("", ""),
    ],
)
def test_the_route_of_a_path(path: str, route: str) -> None:
    assert find_route(ROUTES, path) == route
