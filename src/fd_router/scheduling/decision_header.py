"""The decision header: tells a request, if it wants to know, why it goes where it goes (``x-router-decision``)."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.explanation import Explanation
from fd_router.scheduling.policy import Policy, PolicyDecorator
from fd_router.scheduling.request_view import RequestView

REASON_CHARACTERS = 200
"""Of a reason that a header shows: it may come from a policy that isn't the router's."""


class DecisionHeaderPolicy(PolicyDecorator):
    """Chooses as ``policy`` does, and notes the decision in the ``decisions`` (role → text) of a request that has some.

    Only used where the configuration allows such a header, since it asks every request.
    """

    def __init__(self, policy: Policy, role: str, name: str) -> None:
        super().__init__(policy)
        self._role = role
        self._name = name

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Choose, explaining it before when the request wants to know."""
        decisions = request.decisions
        if decisions is None:
            return self._policy.choose(request, candidates)
        explanation = self._policy.explain(request, candidates)
        chosen = self._policy.choose(request, candidates)
        decisions[self._role] = decision_text(self._role, self._name, explanation, chosen)
        return chosen


def decision_text(role: str, policy: str, explanation: Explanation, chosen: Candidate) -> str:
    """Write a decision as a header shows it: ``mixed=http://…; policy=…; hit=50; load=3; score=0.55; candidates=8; …``.

    Visible ASCII only, whatever the reason holds.
    """
    standing = next((one for one in explanation.standings if one.candidate is chosen), None)
    parts = [f"{role}={chosen.url}", f"policy={policy}"]
    if standing is not None:
        figures = {"hit": standing.hit, "load": standing.load, "score": standing.score}
        parts += [f"{name}={figure:.6g}" for name, figure in figures.items() if figure is not None]
    reason = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in explanation.reason[:REASON_CHARACTERS])
    parts += [f"candidates={len(explanation.standings)}", f'reason="{reason}"']
    return "; ".join(parts)
