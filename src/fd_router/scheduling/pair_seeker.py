"""A pair seeker: a request of a disaggregated fleet, which perhaps had better not have a pair."""

from __future__ import annotations

from typing import Protocol, TypeVar

CandidateT_contra = TypeVar("CandidateT_contra", contravariant=True)


class PairSeeker(Protocol[CandidateT_contra]):
    """A request that seeks a pair, but perhaps had better not have one."""

    def why_alone(self, decode: CandidateT_contra) -> str:
        """Say in a word why no pair of the engine of ``decode`` can serve it; "" when one can."""

    def goes_alone(self, why: str) -> None:
        """Learn that a decode instance alone was chosen, and why."""


SHORT = "short"
"""The word for a prompt of which a decode instance lacks so little that a pair isn't worth it."""
