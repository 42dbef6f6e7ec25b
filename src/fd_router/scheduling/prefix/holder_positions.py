"""Where the instances that the prefix index knows stand among the candidates."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.prefix.index import PrefixIndex

SOME = 16
"""Candidates that a cache is compared with at most."""

ALIKE = 0.02
"""Shares of a cache by which one that is fuller isn't thought to be."""


class HolderPositions:
    """At which place of the candidates each holder of the index stands; made anew when either changes."""

    __slots__ = ("_candidates", "_index", "_version", "holders", "index_of_holder")

    def __init__(self, index: PrefixIndex) -> None:
        self._index = index
        self._candidates: Sequence[Candidate] = ()
        self._version = -1
        self.holders: list[int] = []  # by place; 0 where the candidate holds nothing
        self.index_of_holder: dict[int, int] = {}

    def refresh(self, candidates: Sequence[Candidate]) -> HolderPositions:
        """See to it that the places are those of ``candidates``."""
        index = self._index
        if candidates is not self._candidates or self._version != index.version:
            self.holders = [index.id_of(candidate.url) for candidate in candidates]
            self.index_of_holder = {holder: place for place, holder in enumerate(self.holders) if holder}
            self._candidates, self._version = candidates, index.version
        return self

    def emptiest(self, places: Sequence[int]) -> list[bool]:
        """Say of each place whether its cache is the emptiest of these, or nearly so."""
        full = [self._index.fullness(self._candidates[place].url) for place in places]
        limit = min(full) + ALIKE
        return [each <= limit for each in full]

    def fuller(self, place: int) -> float:
        """Return by how much the cache at ``place`` is fuller than the emptiest one, or than the emptiest of some."""
        fullness, candidates = self._index.fullness, self._candidates
        some = candidates[:: len(candidates) // SOME + 1]
        return max(0.0, fullness(candidates[place].url) - min(fullness(candidate.url) for candidate in some))
