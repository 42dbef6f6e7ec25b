"""The counts of a large fleet as columns that its instances keep up to date: no decision reads a thousand objects."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy.typing as npt

    from fd_router.scheduling.contract import Candidate, Mirrored

FEW = 64
"""Up to so many candidates plain lists are as fast as arrays."""


class CountBoard:
    """Gives ``running`` and ``tokens`` of candidates, in their order: as lists, or as arrays that mustn't be changed.

    Many candidates that come a second time as the same object, and can tell of their changes (``contract.Mirrored``),
    are put on the board: from then on each change costs them one call, and a decision nothing. An instance is on one
    board at a time.
    """

    __slots__ = ("_candidates", "_running", "_seen", "_tokens", "_views")

    def __init__(self) -> None:
        self._candidates: Sequence[Candidate] = ()  # those on the board
        self._seen: Sequence[Candidate] = ()  # those that came last
        self._running = array("q")
        self._tokens = array("q")
        self._views: tuple[npt.NDArray[Any], npt.NDArray[Any]]

    def running(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Return the concurrent requests of each candidate, as this router counts them."""
        if len(candidates) > FEW and self._has(candidates):
            return cast("Sequence[float]", self._views[0])
        return [candidate.running for candidate in candidates]

    def tokens(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Return the prompt tokens being processed by each candidate."""
        if len(candidates) > FEW and self._has(candidates):
            return cast("Sequence[float]", self._views[1])
        return [candidate.tokens for candidate in candidates]

    def update(self, place: int, running: int, tokens: int) -> None:
        """Take in the new counts of the candidate at ``place``."""
        self._running[place] = running
        self._tokens[place] = tokens

    def clear(self) -> None:
        """Let all candidates go."""
        for candidate in cast("Sequence[Mirrored]", self._candidates):
            if candidate.board is self:
                candidate.board = None
        self._candidates = self._seen = ()

    def _has(self, candidates: Sequence[Candidate]) -> bool:
        if candidates is self._candidates:
            return True
        if candidates is self._seen and hasattr(candidates[0], "board"):
            self._put_up(candidates)
            return True
        self._seen = candidates  # a list that changes all the time isn't worth it
        return False

    def _put_up(self, candidates: Sequence[Candidate]) -> None:
        import numpy as np  # noqa: PLC0415  for large fleets only: it costs start-up time and memory

        self.clear()
        for place, candidate in enumerate(cast("Sequence[Mirrored]", candidates)):
            if candidate.board is not None:
                candidate.board.clear()
            candidate.board, candidate.place = self, place
        self._running = array("q", [candidate.running for candidate in candidates])
        self._tokens = array("q", [candidate.tokens for candidate in candidates])
        self._views = (np.frombuffer(self._running, np.int64), np.frombuffer(self._tokens, np.int64))
        self._candidates = candidates

    def __repr__(self) -> str:
        return f"<CountBoard of {len(self._candidates)} instances>"
