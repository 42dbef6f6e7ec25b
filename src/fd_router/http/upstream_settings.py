"""What the connections to all instances go by."""

from __future__ import annotations

from fd_router.config.live import LiveConfig
from fd_router.config.sections import ProxyConfig
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.heads import HOP_BY_HOP, ResponseHead
from fd_router.http.known_head import KnownHeads
from fd_router.http.write_batcher import WriteBatcher

_INSPECTED = HOP_BY_HOP | {b"content-length", b"transfer-encoding", b"x-request-id"}
"""Headers that aren't handed on as they came. The request id is the router's to tell: it's the same one."""


class UpstreamSettings:
    """What the connections to all instances share, the options in force among it.

    ``first_byte_due``, ``stall_due`` and ``idle_due`` are the deadlines by those options of what begins now: to add two
    numbers for every read and request would cost more than to add them at each tick of the sweeper.
    """

    __slots__ = (
        "batcher", "first_byte_due", "first_byte_timeout", "heads", "idle_due", "inspected", "options", "stall_due",
        "stall_timeout", "sweeper", "via",
    )  # fmt: skip

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
        self.heads: KnownHeads[ResponseHead] = KnownHeads(ResponseHead.is_like)
        self.batcher = batcher
        self.sweeper = sweeper
        self.options: ProxyConfig
        self.first_byte_timeout: float  # seconds
        self.stall_timeout: float
        live.subscribe(ProxyConfig, self._on_options)
        sweeper.tell(self._on_tick)

    def _on_options(self, options: ProxyConfig) -> None:
        self.options = options
        self.first_byte_timeout, self.stall_timeout = options.first_byte_timeout_secs, options.stall_timeout_secs
        self._on_tick(self.sweeper.now)

    def _on_tick(self, now: float) -> None:
        self.first_byte_due, self.stall_due = now + self.first_byte_timeout, now + self.stall_timeout
        self.idle_due = now + self.options.pool_idle_timeout_secs
