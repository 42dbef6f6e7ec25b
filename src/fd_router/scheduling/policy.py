"""The policy: what every scheduling strategy is derived from, and what stands around one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, ClassVar

import msgspec

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.explanation import Explanation, by_chance
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.tracker import RequestTracker


class Need(Enum):
    """What a policy may need beside the candidates' counts: the router keeps up only what somebody needs."""

    PREFIX_INDEX = "prefix_index"  # ``Environment.index``
    REPORTED_LOADS = "reported_loads"  # ``Environment.reported_loads``: each instance's /metrics is read
    PRECEDENCE = "precedence"  # ``RequestView.precedence``: priorities and deadlines are read of each request
    ENGINE_PROMPT = "engine_prompt"  # ``RequestView.engine_prompt`` is what it goes by, not ``prompt``
    TOKEN_IDS = "token_ids"  # noqa: S105  ``RequestView.token_ids``, where a tokenizer is configured


class NoOptions(msgspec.Struct, frozen=True):
    """The options of a policy that has none."""


class Policy:
    """Chooses one of the candidates of a request. Only ``choose`` has to be written; the other hooks have defaults.

    Pure: no I/O, no globals; its own state only. All hooks are called on the event loop, so none may wait. ``Options``
    are what ``scheduler.policy-options`` may hold, in the types and bounds that are annotated there.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    Options: ClassVar[type[msgspec.Struct]] = NoOptions

    def __init__(self, environment: Environment, options: Any = None) -> None:
        """Begin. ``options`` is one of ``Options``; None only where there are none."""

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return one of ``candidates``: at least one, ordered by URL, the same object as long as the fleet is."""
        raise NotImplementedError

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker | None:
        """Note that ``request`` goes to ``candidate``, just chosen; what is returned hears what becomes of it."""

    @property
    def notes_dispatches(self) -> bool:
        """Whether ``on_dispatch`` does anything. A scheduler that finds it doesn't won't call it."""
        return type(self).on_dispatch is not Policy.on_dispatch

    def on_instance_unavailable(self, url: str) -> None:
        """An instance gets nothing new any more: it left, is down, drains, is paused, or its circuit is open."""

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:  # noqa: ARG002
        """Explain the choice that ``choose`` would make now, without changing anything: no index, no turn, no draw."""
        return by_chance(candidates, f"{self.title} doesn't explain its choices")

    @property
    def title(self) -> str:
        """What an explanation calls it."""
        return type(self).__name__


class PolicyDecorator(Policy):
    """Stands around a policy and forwards every hook to it; who derives from this overrides what it means."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Let the policy choose."""
        return self._policy.choose(request, candidates)

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker | None:
        """Let the policy note its choice."""
        return self._policy.on_dispatch(request, candidate)

    @property
    def notes_dispatches(self) -> bool:
        """Whether the policy does anything then, or who derives from this."""
        return type(self).on_dispatch is not PolicyDecorator.on_dispatch or self._policy.notes_dispatches

    def on_instance_unavailable(self, url: str) -> None:
        """Let the policy know."""
        self._policy.on_instance_unavailable(url)

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Let the policy explain."""
        return self._policy.explain(request, candidates)

    @property
    def title(self) -> str:
        """What an explanation calls the policy."""
        return self._policy.title

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._policy!r}>"
