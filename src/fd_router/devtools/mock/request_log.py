"""What a mock instance was sent: the last requests, in the order in which they came."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any

from fd_router.devtools.mock.request import MockRequest


class RequestLog:
    """Remembers the last ``size`` requests: heads whole, bodies by length and SHA-256; with ``bodies`` as text too."""

    __slots__ = ("_bodies", "_entries", "_total")

    def __init__(self, size: int, *, bodies: bool = False) -> None:
        self._bodies = bodies
        self._entries: deque[tuple[int, int, MockRequest, int, str]] = deque(maxlen=size)
        self._total = 0

    def add(self, request: MockRequest, connection: int) -> None:
        """Note a request that came on connection number ``connection``."""
        self._total += 1
        if self._entries.maxlen:
            digest = hashlib.sha256(request.body).hexdigest()
            head = MockRequest(request.method, request.path, request.query, request.headers)
            if self._bodies:
                head.body = request.body
            head.http_1_0 = request.http_1_0
            self._entries.append((self._total, connection, head, len(request.body), digest))

    def clear(self) -> None:
        """Forget them; the numbers go on."""
        self._entries.clear()

    def describe(self) -> dict[str, Any]:
        """Return ``total`` (ever) and ``requests``, oldest first."""
        return {"total": self._total, "requests": [_describe(*entry) for entry in self._entries]}


def _describe(order: int, connection: int, head: MockRequest, length: int, digest: str) -> dict[str, Any]:
    described = {
        "order": order,
        "connection": connection,
        "method": head.method,
        "path": head.path,
        "query": head.query,
        "http_version": "1.0" if head.http_1_0 else "1.1",
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in head.headers],
        "length": length,
        "sha256": digest,
    }
    if head.body:
        described["body"] = head.body.decode("utf-8", "replace")
    return described
