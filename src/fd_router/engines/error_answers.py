"""Error answers of engines that speak OpenAI's protocol: how they begin, also in a stream, and what they say."""

from __future__ import annotations

import json
import re

_ERROR_AT_START = re.compile(
    rb'\A(?:[0-9A-Fa-f]+[^\r\n]*\r\n)?\s*(?:data:\s*)?\{\s*"(?:error"\s*:\s*[^n\s]|object"\s*:\s*"error")'
)
"""A stream or an answer that begins with an error object, behind a chunk's size and an event's name."""

ERROR_EVENT = b'data: {"error"'
"""How an error in the middle of a stream begins. No generated text looks so: in it, quotes are escaped."""

_json_decoder = json.JSONDecoder()


def begins_with_error(piece: bytes) -> bool:
    """Whether the first piece of an answer's body (chunked or not, an event or not) is an error object."""
    return piece.find(b'"error"', 0, 128) >= 0 and _ERROR_AT_START.match(piece) is not None


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
