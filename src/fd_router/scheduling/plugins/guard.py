"""The guard around a plug-in policy: whatever goes wrong in it, every request gets an instance, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fd_router.errors import place_of
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.explanation import Explanation, by_chance
from fd_router.scheduling.plugins.errors import OnError
from fd_router.scheduling.policy import Policy, PolicyDecorator
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.tracker import RequestTracker


class _Figures(msgspec.Struct):
    hit: int | None
    load: float | None
    score: float | None


class _Shown(msgspec.Struct):
    """What is shown of an explanation, in types that can be."""

    reason: str
    standings: list[_Figures]
    best: list[int]


class PluginGuard(PolicyDecorator):
    """Forwards every hook to ``policy`` and survives it; where it fails to choose, ``fallback`` does.

    Of choices that were made for it, the policy hears nothing.
    """

    def __init__(self, policy: Policy, fallback: Policy, on_error: OnError) -> None:
        super().__init__(policy)
        self._fallback = fallback
        self._on_error = on_error
        self._candidates: Sequence[Candidate] = ()
        self._is_own = False  # whether the last choice was the policy's own
        self._known: frozenset[int] = frozenset()  # the identities of the candidates of the last call

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return one of ``candidates``, whatever happens."""
        self._is_own = False
        try:
            chosen = self._policy.choose(request, candidates)
        except BaseException as error:  # noqa: BLE001  anything may go wrong in it: a library may call sys.exit()
            self._on_error("choose", "raised", place_of(error))
            return self._fallback.choose(request, candidates)
        if candidates is not self._candidates:
            self._candidates, self._known = candidates, frozenset(map(id, candidates))
        if id(chosen) not in self._known:
            detail = f"choose() returned {_kind(chosen)}, which is none of the candidates"
            self._on_error("choose", "wrong_choice", detail)
            return self._fallback.choose(request, candidates)
        self._is_own = True
        return chosen

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker | None:
        """Let the policy note its choice, and guard the tracker that it returns."""
        if not self._is_own:
            return None
        try:
            tracker = self._policy.on_dispatch(request, candidate)
        except BaseException as error:  # noqa: BLE001
            self._on_error("on_dispatch", "raised", place_of(error))
            return None
        return None if tracker is None else GuardedTracker(tracker, self._on_error)

    def on_instance_unavailable(self, url: str) -> None:
        """Let the policy know. A request that met the dead instance goes on, whatever happens."""
        try:
            self._policy.on_instance_unavailable(url)
        except BaseException as error:  # noqa: BLE001
            self._on_error("on_instance_unavailable", "raised", place_of(error))

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Let the policy explain; one that fails at it, or explains other candidates, is said to."""
        try:
            explanation = self._policy.explain(request, candidates)
            msgspec.convert(explanation, _Shown, from_attributes=True)
            is_whole = [standing.candidate for standing in explanation.standings] == list(candidates)
            if is_whole and explanation.best and all(0 <= place < len(candidates) for place in explanation.best):
                return explanation
            why = "it explained other candidates, or no choice"
        except msgspec.ValidationError as error:  # which tells types, no values
            why = str(error)
        except BaseException as error:  # noqa: BLE001
            why = place_of(error)
        return by_chance(candidates, f"{self.title} can't explain its choice: {why}")


class GuardedTracker(RequestTracker):
    """Passes on to ``tracker`` what becomes of a request, and survives it."""

    __slots__ = ("_on_error", "_tracker")

    def __init__(self, tracker: RequestTracker, on_error: OnError) -> None:
        self._tracker = tracker
        self._on_error = on_error

    def hold(self, send: Callable[[], None]) -> bool:
        """Let the policy hold the request; where it fails at that, the request is sent."""
        try:
            return bool(self._tracker.hold(send))
        except BaseException as error:  # noqa: BLE001
            self._on_error("hold", "raised", place_of(error))
            return False

    def on_first_token(self) -> None:
        """See ``RequestTracker``."""
        try:
            self._tracker.on_first_token()
        except BaseException as error:  # noqa: BLE001
            self._on_error("on_first_token", "raised", place_of(error))

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """See ``RequestTracker``."""
        try:
            self._tracker.on_usage(prompt_tokens, cached_tokens)
        except BaseException as error:  # noqa: BLE001
            self._on_error("on_usage", "raised", place_of(error))

    def on_total_tokens(self, tokens: int) -> None:
        """See ``RequestTracker``. A recording asks for it, not the policy."""
        self._tracker.on_total_tokens(tokens)

    def on_end(self) -> None:
        """See ``RequestTracker``."""
        try:
            self._tracker.on_end()
        except BaseException as error:  # noqa: BLE001
            self._on_error("on_end", "raised", place_of(error))


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
