"""Bodies that are forms (``multipart/form-data``, RFC 7578): the short fields, and how large the files are.

Only looked at: an instance gets the body as it came. So what isn't well formed is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from fd_router.errors import BadRequestError
from fd_router.openai.completion import Headers
from fd_router.spliced_body import Body, changed

MAX_FIELD: Final = 64 * 1024
"""Bytes of a field's value; a longer one counts as absent."""

MAX_PARTS: Final = 64
"""Parts that are looked at."""

FRONT: Final = 2 * 1024 * 1024
BACK: Final = 1024 * 1024
"""Bytes of a body in which parts are looked for, at its beginning and at its end: between them is a large file."""

_BOUNDARY = re.compile(rb'\bboundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*?[;\s]name="([^"\r\n]{1,100})"', re.IGNORECASE)
_FILE = re.compile(rb"content-disposition:[^\r\n]*?[;\s]filename\*?=", re.IGNORECASE)


class Form(msgspec.Struct):
    """What was found: texts by name, and the bytes of all files."""

    fields: dict[str, str]
    file_bytes: int = 0


def boundary_of(headers: Headers) -> bytes:
    """Return what separates the parts, as the request's ``Content-Type`` tells it. Raises BadRequestError."""
    kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    found = _BOUNDARY.search(kind) if kind.lower().startswith(b"multipart/form-data") else None
    if found is None:
        raise BadRequestError(
            "Invalid form: the Content-Type must be multipart/form-data with a boundary", code="invalid_form"
        )
    return found[1] or found[2]


def read_form(body: bytes, boundary: bytes) -> Form:
    """Read the parts of ``body``: of files no byte is copied."""
    form = Form({})
    for start, end in _parts(body, b"--" + boundary):
        _read_part(form, body, start, end)
    return form


def _parts(body: bytes, separator: bytes) -> Iterator[tuple[int, int]]:
    """Give the beginning and the end of each part, less the line ends around it."""
    line = b"\r\n" + separator
    front, back = FRONT, max(FRONT, len(body) - BACK)
    start = body.find(separator, 0, front) + len(separator)
    for _ in range(MAX_PARTS):
        end = body.find(line, start, front) if start < front else -1
        if end < 0:
            end = body.find(line, max(start, back))
        if end < 0:
            break
        yield start, end
        start = end + len(line)


def set_field(body: bytes, boundary: bytes, name: str, value: str) -> Body:
    """Return the form ``body`` with ``value`` in its field ``name``, as a first part if it has no such field.

    All else stays as it came. Raises ValueError for what is no form.
    """
    separator, wanted, text = b"--" + boundary, name.encode("utf-8"), value.encode("utf-8")
    first = body.find(separator, 0, FRONT)
    if first < 0:
        raise ValueError("the form has no part")
    for start, end in _parts(body, separator):
        head_end = body.find(b"\r\n\r\n", start, min(end, start + MAX_FIELD))
        head = body[start:head_end] if head_end >= 0 else b""
        found = _NAME.search(head)
        if found is not None and found[1] == wanted and _FILE.search(head) is None:
            return changed(body, ((head_end + 4, end, text),))
    part = b'%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (separator, wanted, text)
    return changed(body, ((first, first, part),))


def _read_part(form: Form, body: bytes, start: int, end: int) -> None:
    head_end = body.find(b"\r\n\r\n", start, min(end, start + MAX_FIELD))
    if head_end < 0:
        return
    head, size = body[start:head_end], end - head_end - 4
    name = _NAME.search(head)
    if _FILE.search(head) is not None:
        form.file_bytes += size
    elif name is not None and 0 <= size <= MAX_FIELD:
        form.fields.setdefault(name[1].decode("utf-8", "replace"), body[head_end + 4 : end].decode("utf-8", "replace"))
