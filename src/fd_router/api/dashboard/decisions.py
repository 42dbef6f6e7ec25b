"""The decisions that the dashboard lists: which instance, why, with which hit and score; nothing of any prompt."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.explanation import Explanation
from fd_router.scheduling.request_view import RequestView

PER_FRAME: Final = 5
"""Decisions that are explained between two frames; more nobody could read, and explaining costs as much as choosing."""

KEPT: Final = 50
"""Of the last ones, for who opens the page next."""

_REASON_CHARACTERS: Final = 200


class DecisionList:
    """A ``DecisionObserver`` that keeps a few decisions of each frame, as JSON."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock``: seconds since 1970."""
        self._clock = clock
        self.wanted = PER_FRAME
        self.unseen = 0
        self._new: list[dict[str, Any]] = []
        self.kept: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def on_decision(self, role: str, request: RequestView, explanation: Explanation, chosen: Candidate) -> None:
        """Take one."""
        self.wanted -= 1
        standing = next((one for one in explanation.standings if one.candidate is chosen), None)
        entry = {
            "at": round(self._clock(), 3),
            "role": role,
            "url": chosen.url,
            "model": getattr(request, "served_as", ""),
            "tokens": request.tokens,
            "hit": standing.hit if standing is not None else None,
            "load": standing.load if standing is not None else None,
            "score": standing.score if standing is not None else None,
            "candidates": len(explanation.standings),
            "reason": explanation.reason[:_REASON_CHARACTERS],
        }
        self._new.append(entry)
        self.kept.append(entry)

    def take(self) -> tuple[list[dict[str, Any]], int]:
        """Return those since the last call, and how many there were that nobody looked at."""
        new, self._new = self._new, []
        unseen, self.unseen = self.unseen, 0
        self.wanted = PER_FRAME
        return new, unseen
