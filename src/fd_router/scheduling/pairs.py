"""Scheduling for disaggregated fleets: a prefill and a decode instance that can work together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from typing import Generic

from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.scheduling.explanation import Draw, Verdict
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.reservation import InstanceT, Reservation
from fd_router.scheduling.scheduler import NO_ROOM, Available

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

    def decide(self, request: RequestView, chosen: InstanceT, tokens: int) -> Reservation[InstanceT]:
        """Count ``chosen`` with ``tokens``, and tell the policy."""
        return Reservation(chosen, tokens, self.policy.on_dispatch(request, chosen))


class PairScheduler(Generic[InstanceT]):
    """Chooses the prefill instance among those with a partner, then the decode instance among its partners.

    Which instances fit together changes only with the fleet, so it is worked out once for each fleet. ``full`` are the
    keys of those that have no room now; ``left_out`` tells, for the error, which others there are, and why they may not
    be chosen.
    """

    def __init__(
        self,
        prefill: Side[InstanceT],
        decode: Side[InstanceT],
        can_pair: Callable[[InstanceT, InstanceT], bool],
        full: Set[str] = frozenset(),
        left_out: Callable[[], str] = str,
    ) -> None:
        self._prefill = prefill
        self._decode = decode
        self._can_pair = can_pair
        self._full = full
        self._left_out = left_out
        self._fleet: tuple[Sequence[InstanceT], Sequence[InstanceT]] = ((), ())
        self._partners: dict[str, list[InstanceT]] = {}  # prefill key → decode instances
        self._prefills: Sequence[InstanceT] = ()  # those with a partner

    def select(
        self, request: RequestView, tried: Collection[str] = ()
    ) -> tuple[Reservation[InstanceT], Reservation[InstanceT]]:
        """Choose and count a pair without the instances in ``tried`` (keys).

        Raises NoInstanceError (503) when there is none, SaturatedError when there would be one if it had room.
        """
        self._match()
        out = self._full | set(tried) if self._full else tried
        prefills = self._left(out) if out else self._prefills
        if not prefills:
            raise self._none(tried)
        prefill = self._prefill.choose(request, prefills)
        decode = self._decode.choose(request, self._partners_left(prefill, out))
        return self._prefill.decide(request, prefill, request.tokens), self._decode.decide(request, decode, 0)

    def explain(self, request: RequestView, draw: Draw) -> tuple[Verdict, Verdict]:
        """Explain which pair ``select`` would choose now, without counting or changing anything.

        Raises NoInstanceError and SaturatedError as ``select`` does.
        """
        self._match()
        prefills = self._left(self._full) if self._full else self._prefills
        if not prefills:
            raise self._none(())
        prefill = draw(self._prefill.policy.explain(request, prefills))
        decodes = self._partners_left(prefills[prefill.place], self._full)
        return prefill, draw(self._decode.policy.explain(request, decodes))

    def _match(self) -> None:
        prefills, decodes = self._prefill.available(), self._decode.available()
        if self._fleet[0] is prefills and self._fleet[1] is decodes:
            return
        self._fleet = (prefills, decodes)
        self._partners = {}
        lists: dict[tuple[str, ...], list[InstanceT]] = {}
        for prefill in prefills:
            partners = [decode for decode in decodes if self._can_pair(prefill, decode)]
            # Those with the same partners share one list, so that whether it has room is found out once.
            self._partners[prefill.key] = lists.setdefault(tuple(d.key for d in partners), partners)
        self._prefills = tuple(p for p in prefills if self._partners[p.key])

    def _left(self, out: Collection[str]) -> list[InstanceT]:
        """Return the prefill instances that aren't ``out`` and have a partner that isn't."""
        has_room: dict[int, bool] = {}
        left = []
        for prefill in self._prefills:
            if prefill.key in out:
                continue
            partners = self._partners[prefill.key]
            found = has_room.get(id(partners))
            if found is None:
                found = has_room[id(partners)] = any(decode.key not in out for decode in partners)
            if found:
                left.append(prefill)
        return left

    def _partners_left(self, prefill: InstanceT, out: Collection[str]) -> Sequence[InstanceT]:
        partners = self._partners[prefill.key]
        return [decode for decode in partners if decode.key not in out] if out else partners

    def _none(self, tried: Collection[str]) -> NoInstanceError:
        if self._full and self._left(tried):
            return SaturatedError(f"No available prefill/decode workers: each pair has one that {NO_ROOM}")
        prefills, decodes = self._fleet
        why = f"{len(prefills)} healthy prefill and {len(decodes)} healthy decode instances"
        if prefills and decodes:
            other = "other " if tried else ""
            why += f", of which no {other}two fit together (TP sizes equal or decode's 1, same version)"
        if others := self._left_out():
            why += f"; {others}"
        error = NoInstanceError(f"No available prefill/decode workers: {why}", status=503)
        error.headers = RETRY_AFTER
        return error
