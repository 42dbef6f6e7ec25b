"""The part of the composition root that says how requests about stored answers begin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from fd_router.app.endpoints import Starter
from fd_router.app.streams import at_endpoint
from fd_router.errors import HttpError
from fd_router.http.client_stream import ClientStream, ProxiedRequest, StartRequest
from fd_router.http.messages import Request
from fd_router.instances.registry import Registry
from fd_router.openai.endpoints import Endpoint, Mode
from fd_router.openai.large_bodies import VERY_LARGE
from fd_router.routing.single import Select
from fd_router.routing.stored import StoredAnswerRequest, StoredContext
from fd_router.routing.stored_answers import StoredAnswers
from fd_router.telemetry.record import RequestRecord

GOES_ON: Final = b'"previous_response_id"'
"""What a body has that goes on from a stored answer, or from none (null)."""


def stored_starters(
    registry: Registry, select: Select, select_any: Select, answers: StoredAnswers, shared: Mapping[str, Any]
) -> dict[Mode, Starter]:
    """Return what begins the requests that make stored answers, by ``select``, and those about them.

    ``answers``: who keeps which.
    """
    shared = {**shared, "answers": answers, "find_instance": registry.get}

    def stateful(endpoint: Endpoint) -> StartRequest:
        return partial(StoredAnswerRequest, StoredContext(select=select, **at_endpoint(endpoint, shared)))

    def stored(endpoint: Endpoint) -> StartRequest:
        segments = endpoint.path.split("/")
        at = next(place for place, segment in enumerate(segments) if segment.startswith("{"))
        context = StoredContext(select=select_any, id_segment=at, **at_endpoint(endpoint, shared))
        return partial(StoredAnswerRequest, context)

    return {"stateful": stateful, "stored": stored}


def paired_or_kept(pair: Starter, kept: Starter) -> Starter:
    """Return what begins, in splitwise mode, the requests that make stored answers.

    One that goes on from such an answer is nothing for a pair, since a prefill instance doesn't have it: it begins by
    ``kept``, with the instance that does. All others begin by ``pair``.
    """

    def starter(endpoint: Endpoint) -> StartRequest:
        begin, go_on = pair(endpoint), kept(endpoint)

        def start(request: Request, client: ClientStream, record: RequestRecord) -> ProxiedRequest:
            return (go_on if _goes_on(endpoint, request) else begin)(request, client, record)

        return start

    return starter


def _goes_on(endpoint: Endpoint, request: Request) -> bool:
    if request.body.find(GOES_ON) < 0:
        return False
    if len(request.body) > VERY_LARGE:  # it is read in slices, later
        return True
    try:
        return bool(endpoint.read(request.body, request.head.headers).previous_response_id)
    except HttpError:
        return False  # whoever reads it next says what is wrong
