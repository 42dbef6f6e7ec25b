"""How a policy would choose: what most of the explanations have in common."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.contract import Explanation, Policy, RequestView, Standing


def explain(policy: Policy, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
    """Let ``policy`` explain how it would choose; one that can't is said to keep that to itself."""
    own = getattr(policy, "explain", None)
    if own is not None:
        explanation: Explanation = own(request, candidates)
        return explanation
    reason = f"{type(policy).__name__} doesn't explain its choices"
    return by_chance(candidates, reason)


def by_chance(candidates: Sequence[Candidate], reason: str) -> Explanation:
    """Explain that any of the candidates may be chosen."""
    return Explanation(reason, [Standing(candidate) for candidate in candidates], range(len(candidates)))


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
