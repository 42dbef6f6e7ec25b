"""A reservation: a request's place among an instance's counts, taken at the selection and given back once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.tracker import RequestTracker


class Reservable(Candidate, Protocol):
    """A candidate whose counts the scheduler keeps."""

    @property
    def key(self) -> str:
        """``host:port``, the identity of the instance."""

    def acquire(self, tokens: int) -> None:
        """Count one more request with ``tokens`` prompt tokens."""

    def release_tokens(self, tokens: int) -> None:
        """Those tokens' prefill is done, or will never be."""

    def release(self, tokens: int = 0) -> None:
        """One request ended, with so many tokens that weren't given back before."""


InstanceT = TypeVar("InstanceT", bound=Reservable)


class Reservation(Generic[InstanceT]):
    """A request's place at an instance: counted when made, to be given back once.

    Both ways of giving back may be called again without effect, so that every ending of a request can
    call them and none counts twice. ``tracker`` is the policy's, when it wants to hear what becomes of this.
    """

    __slots__ = ("_awaits_first", "_holds_request", "holds_tokens", "instance", "tokens", "tracker", "wants_usage")

    def __init__(self, instance: InstanceT, tokens: int, tracker: RequestTracker | None = None) -> None:
        self.instance = instance
        self.tokens = tokens
        self._holds_request = True
        self.holds_tokens = tokens > 0
        self.tracker = tracker
        self._awaits_first = self.wants_usage = tracker is not None
        instance.acquire(tokens)

    def hold(self, send: Callable[[], None]) -> bool:
        """Return whether the policy holds the request; then it calls ``send`` once, unless this is released."""
        return self.tracker is not None and self.tracker.hold(send)

    def first_token(self) -> None:
        """Tell the policy, once, that the prefill is done: an answer that isn't an error shows it."""
        if self._awaits_first and self.tracker is not None:
            self._awaits_first = False
            self.tracker.on_first_token()

    def usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """Tell the policy what the engine said of the prompt."""
        if self.wants_usage and self.tracker is not None:
            self.wants_usage = False
            self.tracker.on_usage(prompt_tokens, cached_tokens)

    def total_tokens(self, tokens: int) -> None:
        """Tell the policy how many tokens prompt and answer have."""
        if self.tracker is not None:
            self.tracker.on_total_tokens(tokens)

    def prefill_done(self) -> bool:
        """Give the tokens back. Returns whether they were still held."""
        if not self.holds_tokens:
            return False
        self.holds_tokens = False
        self.instance.release_tokens(self.tokens)
        return True

    def release(self) -> bool:
        """Give the request back, and its tokens if they are still held. Returns whether it was held."""
        if not self._holds_request:
            return False
        self._holds_request = False
        self.instance.release(self.tokens if self.holds_tokens else 0)
        self.holds_tokens = False
        if self.tracker is not None:
            self._awaits_first = False
            self.tracker.on_end()
        return True

    def __repr__(self) -> str:
        return (
            f"<Reservation {self.instance.url} tokens={self.tokens} {'held' if self._holds_request else 'given back'}>"
        )
