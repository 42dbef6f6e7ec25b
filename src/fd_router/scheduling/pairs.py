"""Scheduling for disaggregated fleets: a prefill and a decode instance that can work together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Generic

from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.scheduling.candidate_group import CandidateGroup
from fd_router.scheduling.decision_tap import DecisionObserver, observed
from fd_router.scheduling.explanation import Draw, Verdict
from fd_router.scheduling.pair_seeker import SHORT, PairSeeker
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView, prompt_tokens
from fd_router.scheduling.reservation import InstanceT, Reservation
from fd_router.scheduling.scheduler import SATURATED, dispatch_hook

RETRY_AFTER = (("retry-after", "5"),)
"""Instances register every 5 s: sooner a client needn't come back."""


_Choices = tuple[Sequence[InstanceT], Mapping[str, Sequence[InstanceT]]]
"""The prefill instances that have a partner, and their partners by prefill key."""


class Side(Generic[InstanceT]):
    """One half of the fleet: a group, and the policy that chooses in it."""

    __slots__ = ("_on_dispatch", "_plain_policy", "group", "policy")

    def __init__(self, group: CandidateGroup[InstanceT], policy: Policy) -> None:
        self.group = group
        self.policy = self._plain_policy = policy
        self._on_dispatch = dispatch_hook(policy)

    def tap(self, role: str, observer: DecisionObserver | None) -> None:
        """Show the choices to ``observer`` from now on, as those for ``role``; None: to nobody."""
        self.policy = observed(self._plain_policy, role, observer)

    def choose(self, request: RequestView, candidates: Sequence[InstanceT]) -> InstanceT:
        """Choose one of ``candidates`` (at least one; a policy may want to remember the choice among one too)."""
        return self.policy.choose(request, candidates)  # type: ignore[return-value]  # one of what it was given

    def decide(self, request: RequestView, chosen: InstanceT, tokens: int) -> Reservation[InstanceT]:
        """Count ``chosen`` with ``tokens``, and let the policy know."""
        tracker = self._on_dispatch(request, chosen) if self._on_dispatch is not None else None
        return Reservation(chosen, tokens, tracker)


class PairScheduler(Generic[InstanceT]):
    """Chooses the prefill instance among those with a partner, then the decode instance among its partners.

    Which instances fit together changes only with the fleet, and which of them are candidates only when one is
    saturated or has headroom again: both are worked out once for each. ``left_out`` tells, for the error, which other
    instances there are, and why they may not be chosen.

    Where ``decodes_alone`` says so of a decode instance, what a pair can't serve goes there whole, and so does a prompt
    of which it lacks fewer than ``alone_below()`` tokens.
    """

    def __init__(
        self,
        prefill: Side[InstanceT],
        decode: Side[InstanceT],
        can_pair: Callable[[InstanceT, InstanceT], bool],
        left_out: Callable[[], str] = str,
        decodes_alone: Callable[[InstanceT], bool] | None = None,
        alone_below: Callable[[], int] = int,
    ) -> None:
        self._decodes_alone = decodes_alone
        self._alone_below = alone_below
        self._are_alone: Sequence[InstanceT] = ()  # the candidates of ``_asked`` that can decode alone
        self._prefill = prefill
        self._decode = decode
        self._can_pair = can_pair
        self._left_out = left_out
        self._fleet: tuple[Sequence[InstanceT], Sequence[InstanceT]] = ((), ())
        self._partners: dict[str, Sequence[InstanceT]] = {}  # prefill key → decode instances that fit
        self._asked: tuple[Sequence[InstanceT], Sequence[InstanceT]] = ((), ())
        self._choices: _Choices[InstanceT] = ((), {})  # of the candidates that were asked for last

    def select(
        self,
        request: RequestView,
        tried: Collection[str] = (),
        on_prefill_chosen: Callable[[], None] | None = None,
        seeker: PairSeeker[InstanceT] | None = None,
    ) -> tuple[Reservation[InstanceT] | None, Reservation[InstanceT]]:
        """Choose and count a pair without the instances in ``tried`` (keys), or a decode instance alone (None first).

        ``on_prefill_chosen`` is called between the two choices. ``seeker``: the request; None: it wants a pair.

        Raises NoInstanceError (503) when there is none, SaturatedError when there would be one if it had headroom.
        """
        prefills, partners = self._candidates(tried)
        if self._are_alone and seeker is not None and (why := self._why_alone(request, seeker)):
            return None, self._choose_alone(request, seeker, why)
        if not prefills:
            raise self._none(tried)
        prefill = self._prefill.choose(request, prefills)
        if on_prefill_chosen is not None:
            on_prefill_chosen()
        decode = self._decode.choose(request, partners[prefill.key])
        reservation = self._prefill.decide(request, prefill, request.tokens)
        try:
            return reservation, self._decode.decide(request, decode, 0)
        except BaseException:  # a policy's, for one: half a pair is none
            reservation.release()
            raise

    def explain(
        self, request: RequestView, draw: Draw, seeker: PairSeeker[InstanceT] | None = None
    ) -> tuple[Verdict | str, Verdict]:
        """Explain which pair ``select`` would choose now, without counting or changing anything.

        A text in the place of the prefill instance says why there is none. Raises NoInstanceError and SaturatedError as
        ``select`` does.
        """
        prefills, partners = self._candidates(())
        if self._are_alone and seeker is not None and (why := self._why_alone(request, seeker)):
            return f"none: decode serves it alone ({why})", draw(self._decode.policy.explain(request, self._are_alone))
        if not prefills:
            raise self._none(())
        prefill = draw(self._prefill.policy.explain(request, prefills))
        decodes = partners[prefills[prefill.place].key]
        return prefill, draw(self._decode.policy.explain(request, decodes))

    def tap(self, observer: DecisionObserver | None) -> None:
        """Show the choices of both sides to ``observer`` from now on, None: to nobody."""
        self._prefill.tap("prefill", observer)
        self._decode.tap("decode", observer)

    def _why_alone(self, request: RequestView, seeker: PairSeeker[InstanceT]) -> str:
        """Say why a decode instance alone is to serve the request; "" when it is for a pair."""
        candidates = self._are_alone
        if why := seeker.why_alone(candidates[0]):
            return why
        limit = self._alone_below()
        if not limit:
            return ""
        tokens = prompt_tokens(request)
        if tokens >= limit:  # the most that any lacks, unless something of it is known there
            explanation = self._decode.policy.explain(request, candidates)
            hit = max((explanation.standings[place].hit or 0 for place in explanation.best), default=0)
            tokens -= tokens * hit / 100
        return SHORT if tokens < limit else ""

    def _choose_alone(self, request: RequestView, seeker: PairSeeker[InstanceT], why: str) -> Reservation[InstanceT]:
        decode = self._decode.choose(request, self._are_alone)
        seeker.goes_alone(why)
        return self._decode.decide(request, decode, request.tokens)

    def _candidates(self, tried: Collection[str]) -> _Choices[InstanceT]:
        prefills, decodes = self._prefill.group.candidates(tried), self._decode.group.candidates(tried)
        if self._asked[0] is not prefills or self._asked[1] is not decodes:
            self._choices = self._among(prefills, decodes)
            self._are_alone = self._alone_of(decodes)
            self._asked = prefills, decodes
        return self._choices

    def _alone_of(self, decodes: Sequence[InstanceT]) -> Sequence[InstanceT]:
        is_alone = self._decodes_alone
        if is_alone is None:
            return ()
        found = tuple(decode for decode in decodes if is_alone(decode))
        return decodes if len(found) == len(decodes) else found

    def _among(self, prefills: Sequence[InstanceT], decodes: Sequence[InstanceT]) -> _Choices[InstanceT]:
        """Return those of ``prefills`` with a partner among ``decodes``, and these partners by prefill key."""
        self._match()
        if prefills is self._fleet[0] and decodes is self._fleet[1]:
            return tuple(prefill for prefill in prefills if self._partners[prefill.key]), self._partners
        keys = {decode.key for decode in decodes}
        lists: dict[int, Sequence[InstanceT]] = {}  # partners that several share are looked through once
        partners: dict[str, Sequence[InstanceT]] = {}
        for prefill in prefills:
            fitting = self._partners[prefill.key]
            left = lists.get(id(fitting))
            if left is None:
                left = lists[id(fitting)] = tuple(decode for decode in fitting if decode.key in keys)
            partners[prefill.key] = left
        return tuple(prefill for prefill in prefills if partners[prefill.key]), partners

    def _match(self) -> None:
        prefills, decodes = self._prefill.group.available, self._decode.group.available
        if self._fleet[0] is prefills and self._fleet[1] is decodes:
            return
        found: dict[str, Sequence[InstanceT]] = {}
        lists: dict[tuple[str, ...], Sequence[InstanceT]] = {}
        for prefill in prefills:
            partners = tuple(decode for decode in decodes if self._can_pair(prefill, decode))
            # Those with the same partners share one tuple, for policies to recognise and for _among to look at once.
            found[prefill.key] = lists.setdefault(tuple(d.key for d in partners), partners)
        self._partners, self._fleet = found, (prefills, decodes)  # not before: a third party's ``can_pair`` may raise

    def _none(self, tried: Collection[str]) -> NoInstanceError:
        self._match()  # among no candidates there was nothing to match
        prefills, decodes = self._fleet
        if self._among([p for p in prefills if p.key not in tried], [d for d in decodes if d.key not in tried])[0]:
            return SaturatedError(f"No available prefill/decode workers: each pair has one that {SATURATED}")
        why = f"{len(prefills)} healthy prefill and {len(decodes)} healthy decode instances"
        if prefills and decodes:
            other = "other " if tried else ""
            why += f", of which no {other}two fit together (same dialect, KV transfer and version; TP sizes)"
        if others := self._left_out():
            why += f"; {others}"
        error = NoInstanceError(f"No available prefill/decode workers: {why}", status=503)
        error.headers = RETRY_AFTER
        return error
