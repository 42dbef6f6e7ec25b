"""A guard around a policy from elsewhere: whatever goes wrong in it, every request gets an instance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.contract import Environment, Explanation, Learner, Policy, RequestTracker, RequestView
from fd_router.scheduling.explanation import by_chance, explain
from fd_router.scheduling.policies.least import RequestNumPolicy

OnTrouble = Callable[[str, str], None]
"""(kind, detail): ``raised`` or ``wrong_choice``, and what there is to say of it, without anything of a request."""


SILENT_SECONDS = 60.0
"""Between two lines about a policy that goes on failing."""


class _Figures(msgspec.Struct):
    hit: int | None
    load: float | None
    score: float | None


class _Shown(msgspec.Struct):
    """What is shown of an explanation, in types that can be."""

    reason: str
    standings: list[_Figures]
    best: list[int]


def guard(policy: Policy, environment: Environment, on_trouble: OnTrouble) -> PluginGuard:
    """Put a guard around ``policy``, which hears what becomes of its choices if it wants to."""
    kind = LearningPluginGuard if isinstance(policy, Learner) else PluginGuard
    return kind(policy, environment, on_trouble)


class PluginGuard:
    """Chooses as ``policy`` does; where that raises, or returns none of the candidates, as ``request_num`` does."""

    def __init__(self, policy: Policy, environment: Environment, on_trouble: OnTrouble) -> None:
        self._policy = policy
        self._on_trouble = on_trouble
        self._safe = RequestNumPolicy(environment)
        self._candidates: Sequence[Candidate] = ()
        self._is_own = False  # whether the last choice was the policy's own
        self._known: frozenset[int] = frozenset()  # the identities of the candidates of the last call

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return one of ``candidates``, whatever happens."""
        self._is_own = False
        try:
            chosen = self._policy.choose(request, candidates)
        except BaseException as error:  # noqa: BLE001  anything may go wrong in it: a library may call sys.exit()
            self._on_trouble("raised", _place(error))
            return self._safe.choose(request, candidates)
        if candidates is not self._candidates:
            self._candidates, self._known = candidates, frozenset(map(id, candidates))
        if id(chosen) not in self._known:
            self._on_trouble("wrong_choice", f"choose() returned {_kind(chosen)}, which is none of the candidates")
            return self._safe.choose(request, candidates)
        self._is_own = True
        return chosen

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Let the policy explain; one that fails at it, or explains other candidates, is said to."""
        try:
            explanation = explain(self._policy, request, candidates)
            msgspec.convert(explanation, _Shown, from_attributes=True)
            is_whole = [standing.candidate for standing in explanation.standings] == list(candidates)
            if is_whole and explanation.best and all(0 <= place < len(candidates) for place in explanation.best):
                return explanation
            why = "it explained other candidates, or no choice"
        except msgspec.ValidationError as error:  # which tells types, no values
            why = str(error)
        except BaseException as error:  # noqa: BLE001
            why = _place(error)
        return by_chance(candidates, f"{type(self._policy).__name__} can't explain its choice: {why}")

    def __repr__(self) -> str:
        return f"<PluginGuard of {self._policy!r}>"


class LearningPluginGuard(PluginGuard):
    """One that also hears what becomes of its choices; of those that were made for it, it hears nothing."""

    def place(self, request: RequestView, candidate: Candidate) -> RequestTracker:
        """Let the policy note its choice."""
        if self._is_own and isinstance(self._policy, Learner):
            try:
                return _GuardedPlacement(self._policy.place(request, candidate), self._on_trouble)
            except BaseException as error:  # noqa: BLE001
                self._on_trouble("raised", _place(error))
        return _NoPlacement()


class _NoPlacement:
    """Nobody wants to hear."""

    def on_first_token(self) -> None:
        """See ``RequestTracker``."""

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """See ``RequestTracker``."""

    def on_end(self) -> None:
        """See ``RequestTracker``."""


class _GuardedPlacement:
    """Passes on to ``placement`` what becomes of a request, and survives it."""

    __slots__ = ("_on_trouble", "_placement")

    def __init__(self, placement: RequestTracker, on_trouble: OnTrouble) -> None:
        self._placement = placement
        self._on_trouble = on_trouble

    def on_first_token(self) -> None:
        """See ``RequestTracker``."""
        self._try(lambda: self._placement.on_first_token())  # noqa: PLW0108  it may not even have the method

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """See ``RequestTracker``."""
        self._try(lambda: self._placement.on_usage(prompt_tokens, cached_tokens))

    def on_end(self) -> None:
        """See ``RequestTracker``."""
        self._try(lambda: self._placement.on_end())  # noqa: PLW0108

    def _try(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except BaseException as error:  # noqa: BLE001
            self._on_trouble("raised", _place(error))


class PluginErrors:
    """Tells of what a policy does wrong: each time by ``count``; by ``log`` the first time, then once a minute at most.

    ``count`` takes the kind, ``log`` a sentence.
    """

    def __init__(
        self, name: str, *, count: Callable[[str], None], log: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        self._name = name
        self._count = count
        self._log = log
        self._clock = clock
        self._silent_until = -math.inf
        self._unsaid = 0

    def __call__(self, kind: str, detail: str) -> None:
        """Take note."""
        self._count(kind)
        self._unsaid += 1
        now = self._clock()
        if now < self._silent_until:
            return
        times = f" ({self._unsaid} times since the last such line)" if self._unsaid > 1 else ""
        self._log(f"The policy {self._name} failed, so request_num chooses instead: {detail}{times}")
        self._silent_until, self._unsaid = now + SILENT_SECONDS, 0


def _place(error: BaseException) -> str:
    """Say what was raised and where. Not its message, which may hold something of a prompt."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
