"""A request tracker: what a policy keeps of a request that was sent where it chose."""

from __future__ import annotations

from collections.abc import Callable


class RequestTracker:
    """Hears what becomes of one request. Each method is called at most once, ``on_end`` always; none must be written.

    A first token that comes after the end, or from an answer that is an error, isn't told.
    """

    __slots__ = ()

    def hold(self, send: Callable[[], None]) -> bool:  # noqa: ARG002
        """Return whether the request is held back; if so, call ``send`` when it is to be sent, unless it ended.

        Asked where the environment has ``later``: a pair is sent at once.
        """
        return False

    def on_first_token(self) -> None:
        """The prefill is done: the first byte of a stream came, or the answer of a prefill instance."""

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """The engine told how long the prompt was, and how much of it was cached; perhaps after ``on_end``."""

    def on_total_tokens(self, tokens: int) -> None:
        """The engine told how many tokens prompt and answer have together. Asked for by recordings only."""

    def on_end(self) -> None:
        """The request is over here, however it ended."""
