"""The table of inference endpoints: what clients send to instances through the router, and how that is read.

The server (which paths are proxied, how large their bodies may be), ``/v1/explain``, the access rules and the labels of
metrics go by it. A third party's endpoint is an ``Endpoint`` of its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, get_args

from fd_router.config.dotted_path import load_object
from fd_router.config.options import did_you_mean
from fd_router.errors import ConfigError
from fd_router.openai.endpoint import Endpoint, Mode
from fd_router.openai.kinds import audio, chat, embeddings, generate, messages, responses, scoring, tokens
from fd_router.openai.kinds.chat import CHAT, COMPLETIONS

__all__ = ["BUILT_IN", "CHAT", "COMPLETIONS", "Endpoint", "Mode", "open_endpoints", "opened"]

BUILT_IN: Final = (
    *chat.ENDPOINTS,
    *responses.ENDPOINTS,
    *messages.ENDPOINTS,
    *embeddings.ENDPOINTS,
    *scoring.ENDPOINTS,
    *audio.ENDPOINTS,
    *tokens.ENDPOINTS,
    *generate.ENDPOINTS,
)

OPTION: Final = "server.endpoints"

OPEN_OPTION: Final = "server.open-endpoints"


def opened(names: Sequence[str]) -> tuple[Endpoint, ...]:
    """Return those of the table that ``names`` open: kinds, or paths. Raises ConfigError for a name that is neither."""
    known = {endpoint.kind for endpoint in BUILT_IN} | {endpoint.path for endpoint in BUILT_IN}
    for name in names:
        if name not in known:
            kinds = ", ".join(dict.fromkeys(endpoint.kind for endpoint in BUILT_IN))
            near = did_you_mean(name, sorted(known)) or f"; kinds are {kinds}"
            raise ConfigError(f"{OPEN_OPTION}: {name!r} is no kind of endpoints and no path{near}")
    return tuple(endpoint for endpoint in BUILT_IN if endpoint.kind in names or endpoint.path in names)


def open_endpoints(
    paths: Sequence[str], folder: str, is_own: Callable[[str], bool], built_in: Sequence[Endpoint] = BUILT_IN
) -> tuple[Endpoint, ...]:
    """Return the router's endpoints and those that ``paths`` (``module:name``) name.

    A third party's takes the place of a built-in one of the same path, but for those of completions. ``is_own`` tells
    which paths the router answers itself. Raises ConfigError.
    """
    own: list[Endpoint] = []
    for path in paths:
        endpoint = load_object(path, key=OPTION, folder=folder)
        if not isinstance(endpoint, Endpoint):
            raise ConfigError(f"{OPTION}: {path!r}: it is no {__name__}.Endpoint")
        if problem := _problem(endpoint, (CHAT, COMPLETIONS, *own), is_own):
            raise ConfigError(f"{OPTION}: {path!r}: {problem}")
        own.append(endpoint)
    taken = {(endpoint.method, endpoint.path) for endpoint in own}
    return (*(endpoint for endpoint in built_in if (endpoint.method, endpoint.path) not in taken), *own)


def _problem(endpoint: Endpoint, others: Sequence[Endpoint], is_own: Callable[[str], bool]) -> str:
    if not endpoint.path.startswith("/") or set(endpoint.path) & set("?#{} "):
        return f"its path {endpoint.path!r} must begin with / and be a plain path"
    if endpoint.mode not in get_args(Mode):
        near = did_you_mean(str(endpoint.mode), get_args(Mode))
        return f"its mode {endpoint.mode!r} is none of {', '.join(get_args(Mode))}{near}"
    if is_own(endpoint.path):
        return f"{endpoint.path} is answered by the router itself; choose another path"
    if any((other.method, other.path) == (endpoint.method, endpoint.path) for other in others):
        return f"there is an endpoint {endpoint.method} {endpoint.path} already"
    return ""
