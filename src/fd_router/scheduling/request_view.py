"""A request view: what a policy may see of a request."""

from __future__ import annotations

from array import array
from typing import Protocol

from fd_router.openai.precedence import Precedence

TOKENS_OF_ESTIMATE = 8
"""What ``RequestView.tokens`` counts for a token of text: two a character (FastDeploy), and four characters a token."""


class RequestView(Protocol):
    """A request as a policy sees it. What isn't asked for costs nothing: texts and numbers are made when they are."""

    @property
    def prompt(self) -> str:
        """The prompt's text: messages stripped and joined by one space."""

    @property
    def engine_prompt(self) -> str:
        """The prompt's text as engines have it: tools before the messages, and stand-ins for images and other parts."""

    @property
    def tokens(self) -> int:
        """Estimated prompt tokens: characters × 2, as FastDeploy's router counts."""

    @property
    def token_ids(self) -> array[int] | None:
        """The prompt's tokens as 32-bit unsigned numbers, when the client sent them or a tokenizer told them."""

    @property
    def stream(self) -> bool:
        """Whether the answer is a stream, so that its first token will be heard of."""

    @property
    def model(self) -> str:
        """The model asked for, "" if none is."""

    @property
    def session_id(self) -> str:
        """The conversation that it belongs to, as its client calls it, "" if it tells none."""

    @property
    def user(self) -> str:
        """OpenAI's ``user``: for whom the client asks, "" if it tells none."""

    @property
    def max_tokens(self) -> int:
        """The most tokens that the answer may have, 0 where the client sets no limit."""

    def header(self, name: str) -> str | None:
        """Return the first value of an HTTP header, however its name is written, or None."""

    @property
    def cache_seed(self) -> int:
        """What tells its prompt's prefix from the same text under another adapter of the same model; 0: no adapter."""

    @property
    def precedence(self) -> Precedence | None:
        """Who goes before whom, where a policy needs that; None: nothing was read of it."""

    @property
    def decisions(self) -> dict[str, str] | None:
        """By role, why it goes where it goes, for the header that tells; None: it doesn't want to know."""


def prompt_tokens(request: RequestView) -> float:
    """Return how many tokens the prompt has: known, or estimated by its characters."""
    ids = request.token_ids
    return request.tokens / TOKENS_OF_ESTIMATE if ids is None else len(ids)
