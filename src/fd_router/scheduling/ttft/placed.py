"""A request that ``ttft_aware`` has sent, or lets wait: what was predicted of it, and where it is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fd_router.scheduling.environment import Timer
from fd_router.scheduling.tracker import RequestTracker
from fd_router.scheduling.ttft.prefill_queue import PrefillQueue, PromptWork
from fd_router.scheduling.ttft.scoring import Prompt


class Owner(Protocol):
    """The policy, which is told what becomes of it."""

    def on_first_token(self, placed: Placed) -> None:
        """Its first token came."""

    def heard(self, placed: Placed, now: float) -> None:
        """Its first token came at ``now``, and so has what was to go before it."""

    def on_usage(self, placed: Placed, prompt_tokens: int, cached_tokens: int) -> None:
        """The engine told of its prompt."""

    def on_end(self, placed: Placed) -> None:
        """It is over."""


class Placed(RequestTracker):
    """A request that was sent: what was predicted of it, and where it is counted."""

    __slots__ = ("_heard_at", "_policy", "_timer", "backlog", "is_observed", "pending", "prompt", "url")

    def __init__(self, policy: Owner, url: str, prompt: Prompt, backlog: PrefillQueue, pending: PromptWork) -> None:
        self._policy = policy
        self.url = url
        self.prompt = prompt
        self.backlog = backlog
        self.pending = pending
        self.is_observed = False  # whether its prefill counts among those that the speed is learnt from
        self._timer: Timer | None = None  # until its first token, which came …
        self._heard_at = 0.0  # … then, is heard of

    def hold(self, send: Callable[[], None]) -> bool:
        """See ``RequestTracker``."""
        pending = self.pending
        if pending.row < 0:
            return False
        pending.send = send
        return True

    def on_first_token(self) -> None:
        """See ``RequestTracker``."""
        self._policy.on_first_token(self)

    def wait(self, timer: Timer, now: float) -> None:
        """Its first token came at ``now``, and is heard of when ``timer`` calls ``hear``.

        What an engine's step brings it writes at once, but over as many connections, which are read in any order: so
        ends go before it that are read after it.
        """
        self._timer, self._heard_at = timer, now

    def hear(self) -> None:
        """Its first token has waited."""
        self._timer = None
        self._policy.heard(self, self._heard_at)

    def _hear_now(self) -> None:
        if (timer := self._timer) is not None:
            timer.cancel()
            self.hear()

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """See ``RequestTracker``."""
        self._hear_now()
        self._policy.on_usage(self, prompt_tokens, cached_tokens)

    def on_end(self) -> None:
        """See ``RequestTracker``."""
        self._hear_now()
        self._policy.on_end(self)

    def __repr__(self) -> str:
        return f"<Placed {self.pending.tokens:.0f} tokens at {self.url}>"
