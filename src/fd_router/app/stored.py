"""The part of the composition root that says how requests about stored answers begin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fd_router.app.endpoints import Starter
from fd_router.http.client_stream import StartRequest
from fd_router.instances.registry import Registry
from fd_router.openai.endpoints import Endpoint, Mode
from fd_router.routing.single import Select
from fd_router.routing.stored import StoredAnswerRequest, StoredContext
from fd_router.routing.stored_answers import StoredAnswers


def stored_starters(
    registry: Registry, select: Select, select_any: Select, shared: Mapping[str, Any]
) -> dict[Mode, Starter]:
    """Return what begins the requests that make stored answers, by ``select``, and those about them."""
    shared = {**shared, "answers": StoredAnswers(), "find_instance": registry.get}

    def stateful(endpoint: Endpoint) -> StartRequest:
        return partial(StoredAnswerRequest, StoredContext(endpoint=endpoint, select=select, **shared))

    def stored(endpoint: Endpoint) -> StartRequest:
        segments = endpoint.path.split("/")
        at = next(place for place, segment in enumerate(segments) if segment.startswith("{"))
        context = StoredContext(endpoint=endpoint, select=select_any, id_segment=at, **shared)
        return partial(StoredAnswerRequest, context)

    return {"stateful": stateful, "stored": stored}
