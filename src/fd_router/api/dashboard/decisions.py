"""The decisions that the dashboard lists: which instance, why, with which hit and score; nothing of any prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fd_router.api.dashboard.recent import RecentList
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.explanation import Explanation
from fd_router.scheduling.request_view import RequestView

PER_FRAME: Final = 5
"""Decisions that are explained between two frames; more nobody could read, and explaining costs as much as choosing."""

_REASON_CHARACTERS: Final = 200


class DecisionList(RecentList):
    """A ``DecisionObserver`` that keeps a few decisions of each frame."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock, PER_FRAME)

    def on_decision(self, role: str, request: RequestView, explanation: Explanation, chosen: Candidate) -> None:
        """Take one."""
        self.wanted -= 1
        standing = next((one for one in explanation.standings if one.candidate is chosen), None)
        self.add(
            role=role,
            url=chosen.url,
            model=getattr(request, "served_as", ""),
            tokens=request.tokens,
            hit=standing.hit if standing is not None else None,
            load=standing.load if standing is not None else None,
            score=standing.score if standing is not None else None,
            candidates=len(explanation.standings),
            reason=explanation.reason[:_REASON_CHARACTERS],
        )
