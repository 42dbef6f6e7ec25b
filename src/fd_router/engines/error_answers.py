"""Error answers of engines that speak OpenAI's protocol: how they begin, also in a stream, and what they say."""

from __future__ import annotations

import json
import re

from fd_router.openai.continuation.event_json import decode_object
from fd_router.openai.continuation.event_splitter import EventSplitter, payload
from fd_router.openai.continuation.generated import is_error

_ERROR_AT_START = re.compile(
    rb"\A(?:[0-9A-Fa-f]+(?:;[^\r\n]*)?\r\n|(?::|id:|retry:|event:(?!\s*error\b))[^\r\n]*[\r\n]|\s)*+"
    rb'(?:event:|(?:data:\s*)?\{\s*"(?:error"\s*:\s*[^n\s]|object"\s*:\s*"error"))'
)
"""A stream or an answer that begins with an error object, or with an event of that name.

In front of it may stand the sizes of chunks, comments by which the connection was kept open, and an event's fields.
"""

_USUAL_START = re.compile(rb'\A(?:[0-9A-Fa-f]+\r\n)?(?:data: ?)?\{"[a-df-np-z]')
"""How nearly all begin: with an object whose first member isn't called ``error`` or ``object``."""

_ERROR_LINE = re.compile(
    rb'^(?:event:\s*error\b|data:\s*\{\s*"(?:error"\s*:\s*[^n\s]|object"\s*:\s*"error"))', re.MULTILINE
)
"""An error among the events of a stream. No generated text looks so: in it, quotes and line ends are escaped."""

ERROR_MEMBER = re.compile(rb'"(?:error"\s*:\s*[^n\s]|object"\s*:\s*"error")')
"""What an error has somewhere. So may something else: only that object says whose member it is."""

ABORT = b'"abort"'
"""The ``finish_reason`` of an answer that the engine gave up."""

RECOVERED = b'"recover_stop"'
"""FastDeploy's, of one that it gave up when it recovered from an error of its own."""

_ABORTED = re.compile(rb'"finish_reason"\s*:\s*"(?:abort|recover_stop)"')
_CHUNK_BORDER = re.compile(rb"\r\n[0-9A-Fa-f]+[^\r\n]*\r\n")
_CLIENTS_CODE = re.compile(rb'"(?:code|status)"\s*:\s*"?4[0-9][0-9]\b')

ERROR_IN_STREAM = "The stream has an error in it"
ABORTED_ANSWER = "The instance aborted the answer, which nobody asked for"

_json_decoder = json.JSONDecoder()


def begins_with_error(piece: bytes) -> bool:
    """Whether the first piece of an answer's body (chunked or not, an event or not) is an error object."""
    return _USUAL_START.match(piece) is None and _ERROR_AT_START.match(piece) is not None


def has_error_event(events: bytes) -> bool:
    """Whether one of some events is an error, whichever member of its object says so."""
    if ERROR_MEMBER.search(events) is None:
        return False
    suspects = (event for event in EventSplitter().feed(events + b"\n\n") if ERROR_MEMBER.search(event) is not None)
    return any(fields is not None and is_error(fields) for fields in map(decode_object, map(payload, suspects)))


def is_aborted(piece: bytes) -> bool:
    """Whether a piece of an answer says that the engine gave the request up, as engines do that are being stopped."""
    return (piece.find(ABORT) >= 0 or piece.find(RECOVERED) >= 0) and _ABORTED.search(piece) is not None


def is_clients_error(piece: bytes) -> bool:
    """Whether an error that an answer begins with tells a status of 400 to 499: another instance would say the same."""
    return _CLIENTS_CODE.search(piece[:2048]) is not None


def end_flaw(tail: bytes) -> str:
    """Tell what is wrong with an answer, by the last bytes of its body as they came; "" when nothing is.

    Errors come last in a stream, and so does the reason for which it ended. Where chunks begin doesn't matter.
    """
    if tail.count(b"\r\n") > 2 * tail.count(b"\n\r\n"):  # a chunk ends within a line: else nothing is cut into pieces
        tail = _CHUNK_BORDER.sub(b"", tail)
    if tail.find(b"error") >= 0 and (_ERROR_LINE.search(tail) is not None or has_error_event(tail)):
        return ERROR_IN_STREAM
    return ABORTED_ANSWER if is_aborted(tail) else ""


def error_message(body: bytes) -> str:
    """Return the message of an error answer, or "". Bounded, since it goes into answers; it may quote the prompt."""
    start = body.find(b"{")
    try:
        answer, _ = _json_decoder.raw_decode(body[start:].decode("utf-8", "replace")) if start >= 0 else (None, 0)
    except (ValueError, RecursionError):
        return ""
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return message[:300] if isinstance(message, str) else ""
