"""What the readers of all connections go by: limits, who needs a key, whom to believe about a request's way."""

from __future__ import annotations

from collections.abc import Callable, Container
from operator import eq
from typing import Protocol

from fd_router.config.live import LiveConfig
from fd_router.config.sections import ProxyConfig
from fd_router.errors import HttpError
from fd_router.http.body_budget import BodyBudget
from fd_router.http.cors import Cors
from fd_router.http.forwarding import Forwarding
from fd_router.http.known_head import KnownHeads
from fd_router.http.messages import RequestHead

UNAUTHENTICATED_BODY = 1024 * 1024
"""Bytes of a body that are taken from a client without an API key, where one is needed. Keys are looked at when a
request is whole; until then anybody could have the router hold as much as the largest body, on each connection."""


class KeyCheck(Protocol):
    """Who may send a large body: see ``admission.api_key_gate``."""

    def knows(self, authorization: bytes) -> bool:
        """Tell whether that header's value shows a key in force."""

    def refusal(self, authorization: bytes) -> HttpError:
        """Count a request without a key in force, and return its answer."""


class ReaderSettings:
    """What the readers of all connections share.

    ``body_limit(path)`` returns the most bytes that a body sent to ``path`` may have. ``keep_authorization``: the
    Authorization header is sent on. ``gate``: who needs a key for a path whose limit is above ``UNAUTHENTICATED_BODY``.
    ``budget``: of all bodies together. ``cors``: which pages may use ``cors_paths``.
    """

    __slots__ = (
        "body_limit", "budget", "clock", "cors", "cors_paths", "forwarding", "gate", "heads", "keep_authorization",
        "make_id", "max_head",
    )  # fmt: skip

    def __init__(
        self,
        live: LiveConfig,
        body_limit: Callable[[str], int],
        clock: Callable[[], float],
        make_id: Callable[[], str],
        *,
        budget: BodyBudget | None = None,
        keep_authorization: bool = True,
        gate: KeyCheck | None = None,
        forwarding: Forwarding | None = None,
        cors: Cors | None = None,
        cors_paths: Container[str] = (),
    ) -> None:
        self.budget = budget or BodyBudget()
        self.heads: KnownHeads[RequestHead] = KnownHeads(eq)
        self.forwarding = forwarding or Forwarding(frozenset(), "fd-router")
        self.cors = cors
        self.cors_paths = cors_paths
        self.keep_authorization = keep_authorization
        self.gate = gate
        self.max_head: int  # bytes
        live.subscribe(ProxyConfig, self._on_options)
        self.body_limit = body_limit
        self.clock = clock
        self.make_id = make_id

    def _on_options(self, options: ProxyConfig) -> None:
        self.max_head = options.max_head_kb * 1024
