"""Cross-origin requests (the Fetch standard's CORS protocol): which pages in a browser may use the inference paths."""

from __future__ import annotations

from collections.abc import Iterable

from fd_router.http.messages import Headers, Response
from fd_router.http.request_fields import first_value

ANY = "*"

CORS_FIELDS = frozenset(
    (
        b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers",
        b"access-control-allow-methods", b"access-control-allow-headers", b"access-control-max-age",
    )
)  # fmt: skip
"""What an instance may say of it: left out where the router does, since two answers are none to a browser."""

_EXPOSED = b"x-request-id, retry-after, x-router-decision, x-router-prefill-url, x-router-decode-url, x-should-retry"
_MAX_AGE_SECS = 7200
"""How long a browser may go by a preflight's answer; Chromium keeps none for longer."""

_REQUESTED = b"access-control-request-method"


class Cors:
    """The origins that may. ``*``: every one; no cookies are ever asked for."""

    __slots__ = ("_any", "_origins")

    def __init__(self, origins: str) -> None:
        """``origins``: separated by spaces or commas, as browsers send them: ``https://chat.example:8443``."""
        words = origins.replace(",", " ").split()
        self._any = ANY in words
        self._origins = frozenset(word.lower().encode("ascii") for word in words)

    def lines(self, headers: Headers) -> bytes:
        """Return the header lines that the answer to a request with ``headers`` gets, none if no page asks."""
        origin = first_value(headers, b"origin")
        if not origin:
            return b""
        if self._any:
            return b"access-control-allow-origin: *\r\naccess-control-expose-headers: %b\r\n" % _EXPOSED
        if origin.lower() not in self._origins:
            return b"vary: origin\r\n"
        return b"access-control-allow-origin: %b\r\nvary: origin\r\naccess-control-expose-headers: %b\r\n" % (
            origin, _EXPOSED,
        )  # fmt: skip

    @staticmethod
    def preflight(headers: Headers, methods: Iterable[str]) -> Response | None:
        """Return the answer to a preflight of a path that takes ``methods``, less ``lines``; None if it is none."""
        if not first_value(headers, _REQUESTED) or not first_value(headers, b"origin"):
            return None
        asked = first_value(headers, b"access-control-request-headers").decode("latin-1")
        return Response(
            204,
            headers=(
                ("access-control-allow-methods", ", ".join(methods)),
                ("access-control-allow-headers", asked or "authorization, content-type"),
                ("access-control-max-age", str(_MAX_AGE_SECS)),
            ),
        )

    def __repr__(self) -> str:
        return f"<Cors {ANY if self._any else len(self._origins)}>"
