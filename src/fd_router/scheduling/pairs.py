"""Scheduling for disaggregated fleets: a prefill and a decode instance that can work together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic

from fd_router.errors import NoInstanceError
from fd_router.scheduling.contract import Decision, InstanceT, Policy, RequestView
from fd_router.scheduling.scheduler import Available

RETRY_AFTER = (("retry-after", "5"),)
"""Instances register every 5 s: sooner a client needn't come back."""


class Side(Generic[InstanceT]):
    """One half of the fleet, and the policy that chooses in it."""

    __slots__ = ("available", "policy")

    def __init__(self, available: Available[InstanceT], policy: Policy) -> None:
        self.available = available
        self.policy = policy

    def choose(self, request: RequestView, candidates: Sequence[InstanceT]) -> InstanceT:
        """Choose one of ``candidates`` (at least one; a policy may want to remember the choice among one too)."""
        return self.policy.choose(request, candidates)  # type: ignore[return-value]  # one of what it was given


class PairScheduler(Generic[InstanceT]):
    """Chooses the prefill instance among those with a partner, then the decode instance among its partners.

    Which instances fit together changes only with the fleet, so it is worked out once for each fleet.
    """

    def __init__(
        self, prefill: Side[InstanceT], decode: Side[InstanceT], can_pair: Callable[[InstanceT, InstanceT], bool]
    ) -> None:
        self._prefill = prefill
        self._decode = decode
        self._can_pair = can_pair
        self._fleet: tuple[Sequence[InstanceT], Sequence[InstanceT]] = ((), ())
        self._partners: dict[str, list[InstanceT]] = {}  # prefill key → decode instances
        self._prefills: Sequence[InstanceT] = ()  # those with a partner

    def select(
        self, request: RequestView, tried: Collection[str] = ()
    ) -> tuple[Decision[InstanceT], Decision[InstanceT]]:
        """Choose and count a pair without the instances in ``tried`` (keys).

        Raises NoInstanceError (503) when there is none.
        """
        self._match()
        prefills, partners = self._prefills, self._partners
        if tried:
            prefills = [p for p in prefills if p.key not in tried and any(d.key not in tried for d in partners[p.key])]
        if not prefills:
            raise self._none()
        prefill = self._prefill.choose(request, prefills)
        decodes: Sequence[InstanceT] = partners[prefill.key]
        if tried:
            decodes = [decode for decode in decodes if decode.key not in tried]
        decode = self._decode.choose(request, decodes)
        return Decision(prefill, request.tokens), Decision(decode, 0)

    def _match(self) -> None:
        prefills, decodes = self._prefill.available(), self._decode.available()
        if self._fleet[0] is prefills and self._fleet[1] is decodes:
            return
        self._fleet = (prefills, decodes)
        self._partners = {p.key: [d for d in decodes if self._can_pair(p, d)] for p in prefills}
        self._prefills = tuple(p for p in prefills if self._partners[p.key])

    def _none(self) -> NoInstanceError:
        prefills, decodes = self._fleet
        why = f"{len(prefills)} healthy prefill and {len(decodes)} healthy decode instances"
        if prefills and decodes:
            why += ", of which no other two fit together (TP sizes equal or decode's 1, same version)"
        error = NoInstanceError(f"No available prefill/decode workers: {why}", status=503)
        error.headers = RETRY_AFTER
        return error
