"""What clients sent, made safe for a log line: nothing in it may begin a new line, a new field, or a new tag."""

from __future__ import annotations

import re

MAX_TAG = 128
_MAX_TAGS = 4 * MAX_TAG
MAX_PATH = 512

METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"))
"""The methods that are shown, and counted, under their own name."""

_NOT_IN_PATH = re.compile(r"[^!-Z\\^-~]")  # visible ASCII without the brackets, which would make a tag
_NOT_IN_METHOD = re.compile(r"[^A-Za-z0-9_-]")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def context_tags(trace_id: str = "", req_id: str = "", session_id: str = "", request_id: str = "") -> str:
    """Make the tags of a request's log lines, ``"[trace_id:…] [req_id:…] [session_id:…] [request_id:…] "``.

    Tags without a value are left out, so the result may be "". Control characters and brackets in
    values become ``_``; when all together are long, each value is cut at ``MAX_TAG`` characters.
    """
    # One look at all values is cheaper than one at each, and nearly always enough.
    values = trace_id + req_id + session_id + request_id
    if "[" in values or "]" in values or not values.isprintable() or len(values) > _MAX_TAGS:
        trace_id, req_id = _tag_value(trace_id), _tag_value(req_id)
        session_id, request_id = _tag_value(session_id), _tag_value(request_id)
    tags = f"[trace_id:{trace_id}] " if trace_id else ""
    if req_id:
        tags += f"[req_id:{req_id}] "
    if session_id:
        tags += f"[session_id:{session_id}] "
    if request_id:
        tags += f"[request_id:{request_id}] "
    return tags


def _tag_value(value: str) -> str:
    return "".join("_" if c in "[]" or not c.isprintable() else c for c in value[:MAX_TAG])


def shown_path(path: str) -> str:
    """Make a client's path fit to be one field of a line: no query, percent-escapes for what isn't visible ASCII."""
    bare = path.partition("?")[0].partition("#")[0]
    # Cut after the escaping: an escape is up to 12 times as long as what it stands for.
    return _NOT_IN_PATH.sub(_percent, bare[: MAX_PATH + 1])[:MAX_PATH] or "/"


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def shown_method(method: str) -> str:
    """Make a client's method fit to stand between brackets."""
    return method if method in METHODS else _NOT_IN_METHOD.sub("?", method[:16])


def escape_controls(text: str) -> str:
    r"""Write control characters, line feeds too, as ``\xNN``. Tabs stay."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
