from __future__ import annotations

import pytest

from fd_router.api.routes import merge_routes
from fd_router.http.messages import Request, Response


async def one(_request: Request) -> Response:
    return Response(200, b"one")


async def two(_request: Request) -> Response:
    return Response(200, b"two")


def test_fragments_are_merged_by_path_and_method() -> None:
    merged = merge_routes({"/a": {"GET": one}}, {"/a": {"POST": two}, "/b": {"GET": two}})
    assert merged == {"/a": {"GET": one, "POST": two}, "/b": {"GET": two}}


def test_fragments_are_left_as_they_are() -> None:
    fragment = {"/a": {"GET": one}}
    merge_routes(fragment, {"/a": {"POST": two}})
    assert fragment == {"/a": {"GET": one}}


def test_two_handlers_for_one_thing_are_refused() -> None:
    with pytest.raises(ValueError, match="two handlers for GET /a"):
        merge_routes({"/a": {"GET": one, "POST": one}}, {"/a": {"GET": two}})
