"""The shadow policy's place: beside the one in force, for as many requests as it may cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.explanation import Explanation, Shadowed
from fd_router.scheduling.policy import Policy, PolicyDecorator
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.shadow.index_view import OwnIndex, SharedIndexView
from fd_router.scheduling.shadow.watch import UNCOUNTED, Watch
from fd_router.scheduling.tracker import RequestTracker


class ShadowTally(Protocol):
    """Who counts what the two decided."""

    def decided(self, chosen: Candidate, wished: Candidate) -> None:
        """The policy in force chose one, the shadow would have taken the other, or the same."""

    def took(self, seconds: float) -> None:
        """The shadow has taken so many seconds, in all."""


class ShadowPolicy(PolicyDecorator):
    """Chooses as ``policy`` does. ``shadow``, which must be guarded, is asked before, while it watches.

    It is built with ``index`` and the same loads, and sees what really goes where; so it is told whether it would have
    chosen otherwise *now*, not what the fleet would look like if it had chosen always: that is ``simulate --what-if``.
    """

    def __init__(
        self,
        policy: Policy,
        shadow: Policy,
        name: str,
        index: SharedIndexView | OwnIndex,
        watch: Watch,
        tally: ShadowTally,
    ) -> None:
        super().__init__(policy)
        self._choose = policy.choose
        self._shadow = shadow
        self._name = name
        self._index = index
        self._watch = watch
        self._tally = tally
        self._on_dispatch = policy.on_dispatch if policy.notes_dispatches else None
        self._learns = shadow.notes_dispatches
        self._uncounted = UNCOUNTED if self._learns else 0
        self._was_asked = False  # for the request that is being scheduled

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Let the policy in force choose, and note what the shadow would have."""
        watch, choose = self._watch, self._choose
        if watch.resting:
            watch.resting -= 1
            return choose(request, candidates)
        if watch.rests():
            self._was_asked = False
            return choose(request, candidates)
        self._was_asked = True
        with watch:  # before the other one remembers where the prompt goes
            wished = self._shadow.choose(request, candidates)
        chosen = choose(request, candidates)
        with watch:
            self._index.sent_to(chosen.url)
        if watch.seen > self._uncounted:
            self._tally.decided(chosen, wished)
        self._tally.took(watch.seconds)
        return chosen

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker | None:
        """Let both note where the request goes."""
        on_dispatch = self._on_dispatch
        tracker = on_dispatch(request, candidate) if on_dispatch is not None else None
        if not (self._learns and self._was_asked):
            return tracker
        with self._watch:
            shadow = self._shadow.on_dispatch(request, candidate)
        return tracker if shadow is None else ShadowTracker(tracker, shadow, self._watch)

    @property
    def notes_dispatches(self) -> bool:
        """Whether either does anything then."""
        return self._learns or self._policy.notes_dispatches

    def on_instance_unavailable(self, url: str) -> None:
        """Let both know."""
        self._policy.on_instance_unavailable(url)
        self._shadow.on_instance_unavailable(url)
        self._index.remove(url)  # of a view this changes nothing

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Explain the choice of the policy in force, and show the shadow's beside it."""
        explanation = self._policy.explain(request, candidates)
        shadow = self._shadow.explain(request, candidates)
        return msgspec.structs.replace(explanation, shadow=Shadowed(self._name, shadow))


class ShadowTracker(RequestTracker):
    """Passes on what becomes of a request to the trackers of both. Only that of the policy in force may hold it."""

    __slots__ = ("_shadow", "_tracker", "_watch")

    def __init__(self, tracker: RequestTracker | None, shadow: RequestTracker, watch: Watch) -> None:
        self._tracker = tracker if tracker is not None else RequestTracker()
        self._shadow = shadow
        self._watch = watch

    def hold(self, send: Callable[[], None]) -> bool:
        """See ``RequestTracker``."""
        return self._tracker.hold(send)

    def on_first_token(self) -> None:
        """See ``RequestTracker``."""
        self._tracker.on_first_token()
        with self._watch:
            self._shadow.on_first_token()

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """See ``RequestTracker``."""
        self._tracker.on_usage(prompt_tokens, cached_tokens)
        with self._watch:
            self._shadow.on_usage(prompt_tokens, cached_tokens)

    def on_total_tokens(self, tokens: int) -> None:
        """See ``RequestTracker``."""
        self._tracker.on_total_tokens(tokens)

    def on_end(self) -> None:
        """See ``RequestTracker``."""
        self._tracker.on_end()
        with self._watch:
            self._shadow.on_end()
