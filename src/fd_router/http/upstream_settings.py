"""What the connections to all instances go by."""

from __future__ import annotations

from fd_router.config.live import LiveConfig
from fd_router.config.sections import ProxyConfig
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.heads import HOP_BY_HOP
from fd_router.http.write_batcher import WriteBatcher

_INSPECTED = HOP_BY_HOP | {b"content-length", b"transfer-encoding", b"x-request-id"}
"""Headers that aren't handed on as they came. The request id is the router's to tell: it's the same one."""


class UpstreamSettings:
    """What the connections to all instances share, the options in force among it."""

    __slots__ = ("batcher", "inspected", "options", "stall_timeout", "sweeper", "via")

    def __init__(
        self,
        batcher: WriteBatcher,
        sweeper: DeadlineSweeper,
        live: LiveConfig,
        *,
        via: str = "",
        dropped: frozenset[bytes] = frozenset(),
    ) -> None:
        """``via``: what the header says that names this router. ``dropped``: names of headers that aren't handed on."""
        self.via = via
        self.inspected = _INSPECTED | dropped
        self.batcher = batcher
        self.sweeper = sweeper
        self.options: ProxyConfig
        self.stall_timeout: float  # seconds; an attribute of its own, since every read sets a deadline by it
        live.subscribe(ProxyConfig, self._on_options)

    def _on_options(self, options: ProxyConfig) -> None:
        self.options = options
        self.stall_timeout = options.stall_timeout_secs
