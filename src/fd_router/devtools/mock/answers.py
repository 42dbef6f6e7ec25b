"""Small answers of a mock instance: JSON values and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from fd_router.devtools.mock.generation import request_headers
from fd_router.devtools.mock.http_server import Call
from fd_router.errors import BadRequestError, HttpError, openai_error
from fd_router.http.messages import error_response
from fd_router.openai.kinds.messages import anthropic_error

Handle = Callable[[Call], None]
"""Answers a call, or raises HttpError."""

T = TypeVar("T")


def try_handle(handle: Handle, call: Call) -> None:
    """Let ``handle`` answer; an HttpError becomes the answer, and so do values of the request that can't be used."""
    try:
        handle(call)
    except HttpError as error:
        respond_error(call, error)
    except (TypeError, ValueError) as error:
        respond_error(call, BadRequestError(f"Invalid request: {error}"))


def decoded(call: Call, shape: type[T]) -> T:
    """Read the body as JSON of that shape. Raises BadRequestError."""
    try:
        return msgspec.json.decode(call.request.body, type=shape)
    except msgspec.DecodeError as error:
        raise BadRequestError(f"Invalid JSON format: {error}") from None


def respond(call: Call, value: Any, status: int = 200) -> None:
    """Answer with ``value`` as JSON."""
    call.respond(status, msgspec.json.encode(value), headers=request_headers(call))


def respond_error(call: Call, error: HttpError) -> None:
    """Answer with an error of OpenAI's shape, or Anthropic's where its clients ask."""
    is_anthropics = call.request.path.startswith("/v1/messages")
    response = error_response(error, anthropic_error if is_anthropics else openai_error)
    call.respond(response.status, response.body, headers=[*response.headers, *request_headers(call)])


def not_allowed(method: str, allowed: Iterable[str]) -> HttpError:
    """Return the error for a method that a path doesn't have."""
    error = BadRequestError(f"{method} is not allowed here", status=405)
    error.headers = (("allow", ", ".join(allowed)),)
    return error


def injected(status: int) -> HttpError:
    """Return the error that a ``status`` fault answers with."""
    shape = BadRequestError if status < 500 else HttpError
    return shape(f"injected fault: {status}", status=status, code="injected_fault")
