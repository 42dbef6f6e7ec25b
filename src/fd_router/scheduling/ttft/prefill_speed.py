"""The prefill speed: how fast instances prefill, learnt from the times of their first tokens."""

from __future__ import annotations

import math

HALF_LIFE = 60.0
"""Seconds of prefilling after which an observation counts half."""

PRIOR = 0.1
"""Seconds of prefilling that the configured speed counts for."""

MOST_SURPRISE = 4.0
"""A prefill counts as so many times as long as expected at most: an engine may compile or load something first."""

SURPRISE = 0.1
"""Seconds beside that: what short prompts take isn't computing."""

TOGETHER = 0.001
"""Seconds; first tokens that come within this were computed in one step."""

DOUBT = 0.3
"""Relative error of a speed known by one observation; by n of them it is the square root of n times less."""

SHORTEST = 1e-6
"""Seconds that all prefills together took at least."""

MOST_APART = 100.0
"""No instance is faster or slower than the fleet by more."""

ALIKE = 0.03
"""Speeds that differ by less are equal, however many observations there are."""


class PrefillSpeed:
    """Tokens a second: the sum of tokens over the sum of seconds, in which old observations fade.

    A ratio of sums, since engines prefill in batches: two first tokens may come at once, and only both together tell
    the speed. ``prior`` is a speed in tokens/s, for the fleet's, or the fleet's, for an instance's. An instance is
    taken to differ from the fleet by what it differs beyond doubt: else the one that looks faster by chance would
    get all that comes to an idle fleet, and the others would never show what they can do.
    """

    __slots__ = (
        "_count", "_counted_secs", "_prior", "_secs", "_seen", "_source", "_speed", "_step_secs", "_step_tokens",
        "_tokens", "changes", "is_known",
    )  # fmt: skip

    def __init__(self, prior: PrefillSpeed | float) -> None:
        self._prior = prior
        self._secs = 0.0
        self._tokens = 0.0
        self._count = 0.0
        self._step_tokens = 0.0  # of the prompts whose first tokens came together last …
        self._step_secs = 0.0  # … the seconds that this took, and those that count
        self._counted_secs = 0.0
        self.is_known = False
        self.changes = 0  # how often something was learnt here
        self._source: PrefillSpeed = self if isinstance(prior, float) else prior  # of all other changes of the speed
        self._seen = -1  # of those changes
        self._speed = 0.0  # as it was then

    @property
    def tokens_per_sec(self) -> float:
        """The speed as far as it is known; always above 0. It is asked for far more often than it changes."""
        changes = self._source.changes
        if self._seen != changes:
            self._speed, self._seen = self._estimate(), changes
        return self._speed

    def _changed(self) -> None:
        self.changes += 1
        self._seen = -1

    def _estimate(self) -> float:
        if isinstance(self._prior, float):
            return (self._tokens + PRIOR * self._prior) / (self._secs + PRIOR)  # never 0, for the prior isn't
        fleet = self._prior.tokens_per_sec
        if self._count <= 0.0 or self._tokens <= 0.0:
            return fleet
        ratio = self.observed / self._prior.observed if self._prior.observed > 0.0 else 1.0
        difference = math.log(min(max(ratio, 1 / MOST_APART), MOST_APART))
        beyond = abs(difference) - ALIKE - DOUBT / math.sqrt(self._count)
        return fleet * math.exp(math.copysign(beyond, difference)) if beyond > 0.0 else fleet

    @property
    def observed(self) -> float:
        """What observations alone say; 0 without any."""
        return self._tokens / max(self._secs, SHORTEST)

    def observe(self, tokens: float, secs: float) -> None:
        """A prefill of ``tokens`` took ``secs``; none: it was done in one step with the one before."""
        if secs > TOGETHER or not self.is_known:
            self._step_tokens, self._step_secs, self._counted_secs = 0.0, secs, 0.0
            fade = 0.5 ** (secs / HALF_LIFE)
            self._tokens *= fade
            self._secs *= fade
            self._count = self._count * fade + 1.0
            self.is_known = True
        self._step_tokens += tokens
        counted = min(self._step_secs, MOST_SURPRISE * self._step_tokens / self._estimate() + SURPRISE)
        self._tokens += tokens
        self._secs += counted - self._counted_secs
        self._counted_secs = counted
        self._changed()

    @property
    def learnt(self) -> tuple[float, float, float]:
        """What was observed: tokens, seconds, and the number of observations, all of them faded."""
        return self._tokens, self._secs, self._count

    def adopt(self, tokens: float, secs: float, count: float) -> None:
        """Begin with what another router has observed, unless something was observed here."""
        if not self.is_known and tokens > 0.0 and secs > 0.0 and count > 0.0:
            self._tokens, self._secs, self._count, self.is_known = tokens, secs, count, True
            self._changed()

    def correct(self, tokens: float) -> None:
        """One that was observed had ``tokens`` more to compute than was thought (fewer, when below 0)."""
        self._tokens = max(0.0, self._tokens + tokens)
        self._changed()

    def __repr__(self) -> str:
        return f"<PrefillSpeed {self.tokens_per_sec:.0f} tokens/s>"
