"""The adapter of plug-ins that don't derive from ``Policy``: what they have of its hooks, under any name they had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.explanation import Explanation
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.tracker import RequestTracker

OLD_HOOKS = ("place", "on_gone")
"""What ``on_dispatch`` and ``on_instance_unavailable`` were called."""


def adapt(plugin: Any) -> Policy:
    """Return ``plugin`` as a policy: itself if it is one, else a class of its own around what it has."""
    if isinstance(plugin, Policy) and not any(hasattr(plugin, hook) for hook in OLD_HOOKS):
        return plugin
    return AdaptedPolicy(plugin)


class AdaptedPolicy(Policy):
    """A plain class with ``choose``, perhaps with ``explain``, ``on_dispatch`` and ``on_instance_unavailable``."""

    def __init__(self, plugin: Any) -> None:
        self.plugin = plugin
        self._on_dispatch = _first(plugin, "place", "on_dispatch")
        self._on_instance_unavailable = _first(plugin, "on_gone", "on_instance_unavailable")
        self._explain = _first(plugin, "explain")

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Let the plug-in choose."""
        chosen: Candidate = self.plugin.choose(request, candidates)
        return chosen

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker | None:
        """Let the plug-in note its choice, if it wants to."""
        tracker = self._on_dispatch(request, candidate) if self._on_dispatch is not None else None
        return tracker if tracker is None or isinstance(tracker, RequestTracker) else AdaptedTracker(tracker)

    def on_instance_unavailable(self, url: str) -> None:
        """Let the plug-in know, if it wants to."""
        if self._on_instance_unavailable is not None:
            self._on_instance_unavailable(url)

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Let the plug-in explain, if it does."""
        if self._explain is None:
            return super().explain(request, candidates)
        explanation: Explanation = self._explain(request, candidates)
        return explanation

    @property
    def title(self) -> str:
        """The plug-in's own name."""
        return type(self.plugin).__name__

    def __repr__(self) -> str:
        return f"<AdaptedPolicy {self.plugin!r}>"


class AdaptedTracker(RequestTracker):
    """What a plug-in keeps of a request: an object with some of a tracker's methods."""

    __slots__ = ("_hold", "_on_end", "_on_first_token", "_on_usage")

    def __init__(self, tracker: Any) -> None:
        self._hold = _first(tracker, "hold", "waits")
        self._on_first_token = _first(tracker, "on_first_token")
        self._on_usage = _first(tracker, "on_usage")
        self._on_end = _first(tracker, "on_end")

    def hold(self, send: Callable[[], None]) -> bool:
        """See ``RequestTracker``."""
        return self._hold is not None and bool(self._hold(send))

    def on_first_token(self) -> None:
        """See ``RequestTracker``."""
        if self._on_first_token is not None:
            self._on_first_token()

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """See ``RequestTracker``."""
        if self._on_usage is not None:
            self._on_usage(prompt_tokens, cached_tokens)

    def on_end(self) -> None:
        """See ``RequestTracker``."""
        if self._on_end is not None:
            self._on_end()


def _first(plugin: Any, *names: str) -> Callable[..., Any] | None:
    """Return the first method of these names that ``plugin`` has."""
    return next((method for name in names if callable(method := getattr(plugin, name, None))), None)
