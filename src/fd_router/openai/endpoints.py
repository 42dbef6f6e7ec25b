"""The table of inference endpoints: what clients send to instances through the router, and how that is read.

The server (which paths are proxied, how large their bodies may be), ``/v1/explain``, the access rules and the labels of
metrics go by it. A third party's endpoint is an ``Endpoint`` of its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from fd_router.config.dotted_path import load_object
from fd_router.errors import ConfigError
from fd_router.openai.completion import Completion, Headers
from fd_router.openai.json_splice import set_member
from fd_router.openai.usage import FindTotal, FindUsage, find_total_tokens, find_usage

Mode = Literal["generate", "any_instance"]
"""``generate``: goes to a pair in splitwise mode; ``any_instance``: to a single instance in every mode."""

Read = Callable[[bytes, Headers], Completion]
"""(body, headers) → what scheduling needs to know. Raises BadRequestError for what no instance could read."""


WithModel = Callable[[bytes, str], bytes]
"""(body, name) → the body as it asks for the model called so. Raises ValueError for what isn't such a body."""


def with_model(body: bytes, model: str) -> bytes:
    """Return a JSON object with ``model`` as its member of this name; the rest stays as it came."""
    return set_member(body, "model", msgspec.json.encode(model))


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One path that instances answer.

    ``read`` runs for each request, ``find_…`` at the end of some answers, ``with_model`` where a request asks for a
    model by another name than its instances know it by.
    """

    path: str
    method: str = "POST"
    mode: Mode = "generate"
    read: Read = Completion
    find_usage: FindUsage = find_usage
    find_total_tokens: FindTotal = find_total_tokens
    with_model: WithModel = with_model


CHAT: Final = Endpoint(path="/v1/chat/completions")

COMPLETIONS: Final = Endpoint(path="/v1/completions")

BUILT_IN: Final = (CHAT, COMPLETIONS)

OPTION: Final = "server.endpoints"


def open_endpoints(paths: Sequence[str], folder: str, is_own: Callable[[str], bool]) -> tuple[Endpoint, ...]:
    """Return the router's endpoints and those that ``paths`` (``module:name``) name.

    ``is_own`` tells which paths the router answers itself. Raises ConfigError.
    """
    endpoints = list(BUILT_IN)
    for path in paths:
        endpoint = load_object(path, key=OPTION, folder=folder)
        if not isinstance(endpoint, Endpoint):
            raise ConfigError(f"{OPTION}: {path!r}: it is no {Endpoint.__module__}.Endpoint")
        if problem := _problem(endpoint, endpoints, is_own):
            raise ConfigError(f"{OPTION}: {path!r}: {problem}")
        endpoints.append(endpoint)
    return tuple(endpoints)


def _problem(endpoint: Endpoint, others: Sequence[Endpoint], is_own: Callable[[str], bool]) -> str:
    if not endpoint.path.startswith("/") or set(endpoint.path) & set("?#{} "):
        return f"its path {endpoint.path!r} must begin with / and be a plain path"
    if is_own(endpoint.path):
        return f"{endpoint.path} is answered by the router itself; choose another path"
    if any((other.method, other.path) == (endpoint.method, endpoint.path) for other in others):
        return f"there is an endpoint {endpoint.method} {endpoint.path} already"
    return ""
