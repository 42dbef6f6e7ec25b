"""Cross-site requests: what a page of another site has a browser send to the router, with its user's standing there.

A browser says so itself: in ``Sec-Fetch-Site``, which it sends to HTTPS and to this machine, else in ``Origin``, which
it sends with every request that may change something (Fetch standard, section 3.2). Neither can be set by a page, and
programs other than browsers send none.
"""

from __future__ import annotations

from typing import Final

from fd_router.http.messages import Request

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 section 9.2.1)."""

_OWN: Final = frozenset({b"same-origin", b"none"})
"""What ``Sec-Fetch-Site`` says of the router's own pages, and of what the user typed himself."""


def is_cross_site(request: Request) -> bool:
    """Tell whether a page that isn't the router's own has made a browser send ``request``."""
    if (site := request.header(b"sec-fetch-site")) is not None:
        return site.strip().lower() not in _OWN
    origins = [value for name, value in request.head.headers if name.lower() == b"origin"]
    return any(_authority(origin) != request.head.host.lower() for origin in origins)


def _authority(origin: bytes) -> bytes:
    """Return host and port of an origin such as ``https://router:8443``; of ``null`` what no host is called."""
    return origin.strip().lower().partition(b"://")[2] or b"?"
