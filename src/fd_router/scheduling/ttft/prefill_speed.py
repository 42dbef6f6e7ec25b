"""How fast instances prefill, learnt from the times of their first tokens."""

from __future__ import annotations

HALF_LIFE = 60.0
"""Seconds of prefilling after which an observation counts half."""

PRIOR = 2.0
"""Seconds of prefilling that the fleet's speed counts for, beside what an instance itself has shown."""

MOST_SURPRISE = 4.0
"""A prefill counts as so many times as long as expected at most: an engine may compile or load something first."""

GRACE = 0.1
"""Seconds beside that: what short prompts take isn't computing."""


class PrefillSpeed:
    """Tokens a second: the sum of tokens over the sum of seconds, in which old observations fade.

    A ratio of sums, since engines prefill in batches: two first tokens may come at once, and only both together tell
    the speed. ``prior``, in tokens/s or another speed, holds until there are observations, and is their counterweight.
    """

    __slots__ = ("_prior", "_secs", "_tokens", "is_known")

    def __init__(self, prior: PrefillSpeed | float) -> None:
        self._prior = prior
        self._secs = 0.0
        self._tokens = 0.0
        self.is_known = False

    @property
    def tokens_per_sec(self) -> float:
        """The speed as far as it is known; always above 0."""
        prior = self._prior if isinstance(self._prior, float) else self._prior.tokens_per_sec
        return (self._tokens + PRIOR * prior) / (self._secs + PRIOR)

    def observe(self, tokens: float, secs: float) -> None:
        """A prefill of ``tokens`` took ``secs``."""
        secs = min(secs, MOST_SURPRISE * tokens / self.tokens_per_sec + GRACE)
        fade = 0.5 ** (secs / HALF_LIFE)
        self._tokens = self._tokens * fade + tokens
        self._secs = self._secs * fade + secs
        self.is_known = True

    def correct(self, tokens: float) -> None:
        """One that was observed had ``tokens`` more to compute than was thought (fewer, when below 0)."""
        self._tokens = max(0.0, self._tokens + tokens)

    def __repr__(self) -> str:
        return f"<PrefillSpeed {self.tokens_per_sec:.0f} tokens/s>"
