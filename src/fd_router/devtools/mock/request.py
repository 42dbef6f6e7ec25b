"""A request as a mock instance receives it."""

from __future__ import annotations


class MockRequest:
    """One whole request. ``keep_alive`` is what the client wants, until the answer decides otherwise."""

    __slots__ = ("body", "headers", "http_1_0", "keep_alive", "method", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: list[tuple[bytes, bytes]] | None = None,
        body: bytes = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.query = query  # without the question mark
        self.headers = headers or []  # in the order received, in the sender's case
        self.body = body
        self.http_1_0 = False
        self.keep_alive = True

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of header ``name`` (lower case), or None."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None
