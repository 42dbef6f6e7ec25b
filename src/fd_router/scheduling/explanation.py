"""An explanation: how a policy would choose, and what most explanations have in common."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from fd_router.scheduling.candidate import Candidate


class Standing(msgspec.Struct, frozen=True):
    """What a policy makes of one candidate. None: it doesn't look at that."""

    candidate: Candidate
    hit: int | None = None  # percent of the prompt's blocks known there
    load: float | None = None
    score: float | None = None  # of all candidates' the lowest wins
    is_told: bool = False  # whether the engine told what it holds, so that ``hit`` isn't guessed


class Explanation(msgspec.Struct, frozen=True):
    """How a policy would choose now."""

    reason: str  # one sentence without anything of the prompt
    standings: Sequence[Standing]  # of the candidates, in their order
    best: Sequence[int]  # places of those that may be chosen: several when chance decides among them
    shadow: Shadowed | None = None  # what the shadow policy, if there is one, would choose of the same candidates


class Shadowed(msgspec.Struct, frozen=True):
    """A shadow policy's explanation."""

    policy: str
    explanation: Explanation


def by_chance(candidates: Sequence[Candidate], reason: str) -> Explanation:
    """Explain that any of the candidates may be chosen."""
    return Explanation(reason, [Standing(candidate) for candidate in candidates], list(range(len(candidates))))


def by_lowest(what: str, candidates: Sequence[Candidate], scores: Sequence[float]) -> Explanation:
    """Explain that the lowest of ``scores`` wins, each of equals with the same chance; ``what`` names the lowest."""
    values = [float(score) for score in scores]
    low = min(values)
    best = [place for place, value in enumerate(values) if value == low]
    standings = [
        Standing(candidate, load=value, score=value) for candidate, value in zip(candidates, values, strict=True)
    ]
    return Explanation(f"{what}: {low:g}{among(best, candidates)}", standings, best)


def among(best: Sequence[int], candidates: Sequence[Candidate]) -> str:
    """Say, as the end of a reason, that chance decides when there is more than one best."""
    return f"; one at random of {len(best)} equals among {len(candidates)} candidates" if len(best) > 1 else ""


class Verdict(NamedTuple):
    """An explanation, and the place of the candidate that is taken: chance decides anew among several best ones."""

    explanation: Explanation
    place: int


Draw = Callable[[Explanation], Verdict]
"""Takes one of the best."""


def draw_with(rng: random.Random) -> Draw:
    """Draw from ``rng``, which must not be the policies' own: explaining must not change what they choose next."""
    return lambda explanation: Verdict(explanation, explanation.best[int(rng.random() * len(explanation.best))])
