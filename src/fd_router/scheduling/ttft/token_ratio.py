"""The token ratio: how many tokens a character of a prompt is, learnt from what engines tell of prompts' lengths."""

from __future__ import annotations

PRIOR = 0.25
"""Tokens a character: English text, by most tokenizers. Chinese has more than twice as many."""

WEIGHT = 4_000
"""Characters that the prior counts for."""

MEMORY = 1_000_000
"""Characters after which an observation counts a third or so."""


class TokenRatio:
    """The sum of tokens over the sum of characters, in which old observations fade."""

    __slots__ = ("_characters", "_tokens")

    def __init__(self) -> None:
        self._characters = float(WEIGHT)
        self._tokens = PRIOR * WEIGHT

    @property
    def tokens_per_character(self) -> float:
        """The ratio as far as it is known; always above 0."""
        return self._tokens / self._characters

    def observe(self, characters: int, tokens: int) -> None:
        """A prompt of ``characters`` had ``tokens`` (at least 1)."""
        if characters:
            keep = MEMORY / (MEMORY + characters)
            self._characters = self._characters * keep + characters
            self._tokens = self._tokens * keep + tokens

    def __repr__(self) -> str:
        return f"<TokenRatio {self.tokens_per_character:.3f} tokens a character>"
