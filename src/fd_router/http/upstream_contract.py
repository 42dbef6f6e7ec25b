"""Whom a connection to an instance tells what happens: its listener, who sent the request, and its pool."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from fd_router.bugs import tell_of_bug
from fd_router.errors import UpstreamError
from fd_router.http.heads import ResponseHead

C_contra = TypeVar("C_contra", contravariant=True)


class BodyTaker(Protocol):
    """Who takes an answer's body behind its beginning."""

    def on_data(self, data: bytes) -> None:
        """More of the body, framed as it came."""

    def on_bug(self, error: Exception) -> None:
        """One of these callbacks raised: end, and tell whoever waits, in whatever state that left things."""


class _Nobody:
    """Takes what nobody waits for."""

    __slots__ = ()

    def on_data(self, data: bytes) -> None:
        """Take it."""

    def on_bug(self, error: Exception) -> None:
        """Tell the log: there is nobody else."""
        tell_of_bug("a connection failed", error)


NOBODY: Final = _Nobody()


class Listener(BodyTaker, Protocol):
    """Who sent the request. Exactly one of ``on_complete``, ``on_whole`` and ``on_failed`` ends what ``send`` began.

    Unless one of them raises: then ``on_bug`` does.
    """

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """The head is complete; ``body`` is what of the (still framed) body came with it."""

    def on_complete(self) -> None:
        """The answer ended as it should. The connection is no longer the listener's."""

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer is there at once. The connection is no longer the listener's."""

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """The answer won't come or won't end. ``stale``: a kept connection turned out dead before any byte."""


class Owner(Protocol[C_contra]):
    """Where connections live: the pool."""

    url: str

    def on_opened(self, connection: C_contra) -> None:
        """A new connection is there."""

    def on_reusable(self, connection: C_contra) -> None:
        """A request is over and the connection can serve another."""

    def on_closed(self, connection: C_contra) -> None:
        """The connection is gone."""
