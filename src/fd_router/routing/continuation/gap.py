"""The gap in a stream: from where its instance broke off to the first event of the one that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fd_router.instances.instance import Instance
from fd_router.routing.continuation.keeper import StreamKeeper

COMMENT: Final = b": the stream goes on at another instance\n\n"
"""An event that says nothing: clients skip it, and what stands between them and the router sees bytes."""


class Gap:
    """How long a client waits, and what it is sent meanwhile, so that nobody on the way takes it for gone."""

    __slots__ = ("_keeper", "_send", "_since", "_timer", "due")

    def __init__(self, keeper: StreamKeeper, send: Callable[[bytes], None]) -> None:
        """``send``: takes events for the client."""
        self._keeper = keeper
        self._send = send
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.due = 0.0
        """When time limits end it at the latest, in seconds of the clock; 0.0: nothing was sent yet, or it is over."""

    @property
    def is_open(self) -> bool:
        """Whether the client waits."""
        return self._since > 0.0

    def begin(self) -> None:
        """The stream broke off."""
        if not self._since:
            self._since = self._keeper.clock()
            self._wait()

    def on_sent(self) -> None:
        """Somebody is to go on, and may take as long as for an answer's first byte."""
        proxy = self._keeper.live.current.proxy
        limits = proxy.connect_timeout_secs, proxy.prefill_timeout_secs, proxy.first_byte_timeout_secs
        self.due = self._keeper.clock() + sum(limits)

    def end(self) -> None:
        """It goes on, or is over."""
        self._since = self.due = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def seconds(self) -> float:
        """How long it is so far."""
        return self._keeper.clock() - self._since

    def _wait(self) -> None:
        seconds = self._keeper.live.current.proxy.gap_comment_secs
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer) if seconds else None

    def _on_timer(self) -> None:
        self._wait()
        self._send(COMMENT)

    def __repr__(self) -> str:
        return f"<Gap {f'of {self.seconds:.3f} s so far' if self._since else 'closed'}>"


def explanation(left: str, instances: Sequence[Instance], how: str, decisions: Mapping[str, str]) -> bytes:
    """Return a comment that says where and ``how`` a stream goes on that ``left`` an instance (its URL)."""
    to = " ".join(instance.url for instance in instances)
    said = f": x-router-continued: from={left} to={to} {how}\n: x-router-decision: {', '.join(decisions.values())}\n\n"
    return said.encode("ascii", "replace")
