"""One tree of errors. An error knows its HTTP status, its OpenAI type and code, and whether a retry is safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that aren't what they should be; the last where they are nested too deeply."""


class Retry(Enum):
    """When a failed attempt may be made again, at another instance or on another connection."""

    ALWAYS = "always"
    NEVER = "never"


class FdRouterError(Exception):
    """The root of everything that this package raises on purpose."""


LOOP_DETECTED = 508
"""The status of a request that has been here before (RFC 5842 section 7.2)."""

FINAL_STATUSES = frozenset((501, 505, LOOP_DETECTED))
"""Answers that the same request gets again."""

FINAL_CODES = frozenset(("first_byte_timeout", "overdue", "aborted", "stalled", "request_timeout"))
"""Errors after which an instance would only do the work once more, or somebody didn't want it done."""


class ConfigError(FdRouterError):
    """The configuration can't be used. ``problems`` holds one clear line for each fault found."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class HttpError(FdRouterError):
    """An error that a client sees: ``status`` with an OpenAI-shaped body.

    ``message`` begins with the text FastDeploy's router uses for the case, then the reason and the remedy.
    """

    status = 500
    type = "internal_error"
    code: str | None = None
    may_be_repeated = True
    """Whether a client may send the same again. If not it is told, since SDKs repeat what fails by its status alone."""
    said = ""
    """What an instance said of it. Only for the client: it may quote the prompt, which no log may have."""

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code
        if self.status in FINAL_STATUSES or self.code in FINAL_CODES:
            self.may_be_repeated = False
        self.headers: tuple[tuple[str, str], ...] = ()

    @property
    def full_message(self) -> str:
        """The message, and what an instance said: for the client."""
        return f"{self.message}: {self.said}" if self.said else self.message


ErrorBody = Callable[[HttpError], Mapping[str, Any]]
"""Makes the JSON body of an error answer, in the shape that an endpoint's clients parse."""


def openai_error(error: HttpError) -> Mapping[str, Any]:
    """Return the body of an error in OpenAI's shape."""
    return {"error": {"message": error.full_message, "type": error.type, "param": None, "code": error.code}}


class BadRequestError(HttpError):
    """The client's request can't be served as it is: 400 unless told otherwise (405, 408, 413, 431 …)."""

    status = 400
    type = "invalid_request_error"


class AccessError(HttpError):
    """The client hasn't shown that it may do this: 401, or 403 when it is known but may not."""

    status = 401
    type = "invalid_request_error"  # OpenAI's, for a wrong key
    code = "invalid_api_key"

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message, status=status, code=code)
        if self.status == 401:
            self.headers = (("www-authenticate", "Bearer"),)


class LimitError(HttpError):
    """More ``kind`` (requests, tokens) than is allowed. It may be tried again in ``retry_after`` seconds."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, kind: str, retry_after: int, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.kind = self.type = kind  # OpenAI's errors tell the kind of limit as their type
        self.headers = (("retry-after", str(retry_after)),)


class NoInstanceError(HttpError):
    """No instance can be chosen for the request."""

    status = 502
    type = "service_unavailable"
    code = "no_instance"


class SaturatedError(NoInstanceError):
    """Instances could serve the request, but each of them has as many requests as it may have at once.

    The request may wait until one of them has room, unlike one for which there is no instance.
    """

    status = 503
    code = "saturated"


class UpstreamError(HttpError):
    """An instance failed an attempt.

    ``reason`` is a short word for metrics and logs (one of the ``REASONS``); ``retry`` says whether the
    same request may be sent again elsewhere; ``instance`` is the URL of the guilty one.
    """

    status = 502
    type = "upstream_error"

    REASONS = (
        "refused",  # nobody listens there
        "exhausted",  # the router itself has no open file, port or memory left for a connection
        "unreachable",  # no route, name or address
        "connect_timeout",
        "reset",  # the connection was reset or closed before the first byte of an answer
        "first_byte_timeout",
        "stalled",  # no byte for too long in the middle of an answer
        "cut_off",  # the connection ended in the middle of an answer
        "protocol",  # what came back isn't HTTP/1.1
        "error_answer",  # it answered, with an error of its own
        "busy",  # it answered that it has no room
        "dead",  # its probes told so while it should have answered
    )

    def __init__(
        self, reason: str, detail: str, *, instance: str, retry: Retry = Retry.ALWAYS, status: int | None = None
    ) -> None:
        super().__init__(f"Failed to connect to backend service: {instance}: {detail}", status=status, code=reason)
        self.reason = reason
        self.detail = detail
        self.instance = instance
        self.retry = retry

    def again(self) -> UpstreamError:
        """Return another one, to be raised in place of one that is kept.

        What was raised holds the frames that it passed, and with them whoever keeps it: a cycle.
        """
        return UpstreamError(self.reason, self.detail, instance=self.instance, retry=self.retry, status=self.status)


def place_of(error: BaseException) -> str:
    """Say what kind of error was raised, and in which line of which file, without its text: it may quote a prompt."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"
