"""Whose page made a browser send it: what it says itself decides."""

from __future__ import annotations

import pytest

from fd_router.api.cross_site import is_cross_site
from fd_router.http.messages import Request, RequestHead


@pytest.mark.parametrize(
    ("headers", "is_foreign"),
    [
        ({}, False),  # no browser
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxied.example"}, False),  # a proxy changed the host
        ({"sec-fetch-site": "none"}, False),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://router:30000"}, True),
        ({"Sec-Fetch-Site": ""}, True),
        ({"Origin": "http://router:30000"}, False),
        ({"Origin": "HTTP://Router:30000"}, False),
        ({"Origin": "http://router"}, True),
        ({"Origin": "http://router:30000.evil.example"}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": ""}, True),
    ],
)
def test_the_browser_says_it(headers: dict[str, str], is_foreign: bool) -> None:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert is_cross_site(Request(RequestHead("POST", "/x", headers=fields, host=b"router:30000"))) is is_foreign


def test_of_two_origins_both_must_be_ours() -> None:
    fields = [(b"Origin", b"http://router:30000"), (b"Origin", b"http://evil.example")]
    assert is_cross_site(Request(RequestHead("POST", "/x", headers=fields, host=b"router:30000")))
