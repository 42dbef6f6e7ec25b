"""The load table: counts of a large fleet as columns that its instances keep up to date; no decision asks them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from fd_router.scheduling.candidate import Candidate

if TYPE_CHECKING:
    import numpy.typing as npt

VECTORIZE_ABOVE = 64
"""Up to so many candidates plain lists are as fast as arrays."""


class TableBacked(Candidate, Protocol):
    """A candidate that tells ``load_table``, if it has one, of each change of its counts."""

    load_table: LoadTable | None
    row: int  # its own in the table


class LoadTable:
    """Gives ``running`` and ``tokens`` of candidates, in their order: as lists, or as arrays that mustn't be changed.

    Many candidates that come a second time as the same object get a row each: from then on each change costs them one
    call, and a decision nothing. An instance is in one table at a time. Who makes a table whose candidates tell of no
    change (they aren't ``TableBacked``) says so: ``is_told`` is false, and they are read each time.
    """

    __slots__ = ("_candidates", "_is_told", "_running", "_seen", "_tokens", "_views")

    def __init__(self, *, is_told: bool = True) -> None:
        self._is_told = is_told
        self._candidates: Sequence[Candidate] = ()  # those with a row
        self._seen: Sequence[Candidate] = ()  # those that came last
        self._running = array("q")
        self._tokens = array("q")
        self._views: tuple[npt.NDArray[Any], npt.NDArray[Any]]

    def running(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Return the concurrent requests of each candidate, as this router counts them."""
        if len(candidates) > VECTORIZE_ABOVE and self._has(candidates):
            return cast("Sequence[float]", self._views[0])
        return [candidate.running for candidate in candidates]

    def tokens(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Return the prompt tokens being processed by each candidate."""
        if len(candidates) > VECTORIZE_ABOVE and self._has(candidates):
            return cast("Sequence[float]", self._views[1])
        return [candidate.tokens for candidate in candidates]

    def update(self, row: int, running: int, tokens: int) -> None:
        """Take in the new counts of the candidate at ``row``."""
        self._running[row] = running
        self._tokens[row] = tokens

    def clear(self) -> None:
        """Let all candidates go."""
        for candidate in cast("Sequence[TableBacked]", self._candidates):
            if candidate.load_table is self:
                candidate.load_table = None
        self._candidates = self._seen = ()

    def _has(self, candidates: Sequence[Candidate]) -> bool:
        if candidates is self._candidates:
            return True
        if candidates is self._seen and self._is_told:
            self._adopt(candidates)
            return True
        self._seen = candidates  # a list that changes all the time isn't worth it
        return False

    def _adopt(self, candidates: Sequence[Candidate]) -> None:
        import numpy as np  # noqa: PLC0415  for large fleets only: it costs start-up time and memory

        self.clear()
        for row, candidate in enumerate(cast("Sequence[TableBacked]", candidates)):
            if candidate.load_table is not None:
                candidate.load_table.clear()
            candidate.load_table, candidate.row = self, row
        self._running = array("q", [candidate.running for candidate in candidates])
        self._tokens = array("q", [candidate.tokens for candidate in candidates])
        self._views = (np.frombuffer(self._running, np.int64), np.frombuffer(self._tokens, np.int64))
        self._candidates = candidates

    def __repr__(self) -> str:
        return f"<LoadTable of {len(self._candidates)} instances>"
