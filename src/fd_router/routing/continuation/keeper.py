"""The keeper of streams: decides which ones can go on at another instance, and gives them a journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fd_router.config.live import LiveConfig
from fd_router.engines.continuation.ways import asking_ids
from fd_router.http.messages import Request
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.continuation.event_bytes import UsualEnd
from fd_router.routing.continuation.journal import Journal, JournalOwner
from fd_router.routing.continuation.resumption import ResumptionTurns
from fd_router.telemetry.metrics.continuation import ContinuationMetrics

MOST_READ = 4 * 1024 * 1024
"""Bytes of a request that is read once more when its stream goes on: more than prompts have; it takes 50 ms at most."""

MAX_FRUITLESS: Final = 2
"""Attempts in a row to go on that add no token: what broke those instances may be the request itself."""

MAX_REFUSALS: Final = 32
"""Connections that may be refused beside those: nothing was sent over them."""

LEFT_FOR_GOOD: Final = frozenset({"stalled", "drained", "dead", "ejected", "stuck"})
"""Why an instance was left that isn't asked again, even where nobody else is there."""


class StreamKeeper:
    """One for each endpoint whose streams can go on; ``chat`` tells its protocol. All share one ``budget``.

    A request may ask for less than the option allows, by its header ``x-router-continue``: ``exact``, or ``off``.
    """

    def __init__(
        self,
        live: LiveConfig,
        budget: JournalBudget,
        metrics: ContinuationMetrics,
        clock: Callable[[], float],
        *,
        chat: bool,
    ) -> None:
        self.live = live
        self.metrics = metrics
        self.clock = clock
        self.chat = chat
        self.turns = ResumptionTurns()
        self._budget = budget
        self._usual = UsualEnd()

    def open(self, request: Request, owner: JournalOwner, *, aligned: bool) -> Journal | None:
        """Return ``owner`` a journal for the stream that answers ``request``; None: that shall break with its instance.

        ``aligned``: it hands on whole events only, also where it can't keep them.
        """
        if self.is_off(request):
            return None
        options = self.live.current.proxy
        self._budget.limit = options.journals_mb << 20
        return Journal(self._budget, options.stream_journal_kb << 10, owner, self._usual, aligned=aligned)

    def is_off(self, request: Request) -> bool:
        """Return whether a stream shall break with its instance."""
        return self.live.current.proxy.continue_streams == "off" or request.head.continues == b"off"

    def asks(self, request: Request) -> bool:
        """Return whether the stream is to go on by token ids only, for which its client doesn't ask itself."""
        option = self.live.current.proxy.continue_streams
        if option == "off" or not self.is_exact(request) or len(request.body) > MOST_READ:
            return False
        try:
            wants = SourceRequest(request.body, chat=self.chat).wants_ids
            asking_ids(request.body)
        except (ValueError, RecursionError):
            return False
        return not wants

    def is_exact(self, request: Request) -> bool:
        """Return whether a stream may go on by token ids only."""
        return self.live.current.proxy.continue_streams == "exact" or request.head.continues == b"exact"

    def __repr__(self) -> str:
        return f"<StreamKeeper {'chat' if self.chat else 'completions'} {self._budget!r}>"
