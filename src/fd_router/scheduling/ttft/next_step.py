"""An engine's next step: which prompts wait to be computed in it, and so have their first tokens at its end."""

from __future__ import annotations

STEP = 8192
"""Tokens that an engine computes in one step at most: before any of their prompts has its first token."""

MEMORY = 16.0
"""Observations after which one counts a third or so."""


class StepSharing:
    """Whether engines compute prompts that wait in one step, as a share, learnt from which first tokens come at once.

    Engines of continuous batching do, as long as they fit; one that prefills a prompt at a time doesn't. The first
    observations count as much as what is believed before them, so that such a one is known soon.
    """

    __slots__ = ("_count", "share")

    def __init__(self) -> None:
        self.share = 1.0
        self._count = 1.0  # observations, up to MEMORY; what is believed at first is one

    def observe(self, *, is_shared: bool) -> None:
        """Two prompts that could have been computed in one step were, or weren't."""
        self._count = min(self._count + 1.0, MEMORY)
        self.share += (is_shared - self.share) / self._count

    def __repr__(self) -> str:
        return f"<StepSharing {self.share:.2f}>"


class NextStep:
    """The prompts of one instance whose last tokens are computed in a step that has room for one more prompt.

    Each of them waits for the whole step, so another prompt in it costs them all as long as it takes itself.
    """

    __slots__ = ("_began", "_computed", "_count", "_sharing", "_tokens")

    def __init__(self, sharing: StepSharing) -> None:
        self._sharing = sharing
        self._count = 0
        self._tokens = 0.0  # of the step
        self._began = 0.0  # when the last step began that is over, and the tokens of its first prompt
        self._computed = 0.0

    @property
    def held_up(self) -> float:
        """How many would have their first tokens later by one more prompt's time."""
        return self._count * self._sharing.share

    def join(self, tokens: float) -> None:
        """A prompt is to be computed behind those; what doesn't fit goes to the step after."""
        self._tokens += tokens
        if self._tokens > STEP:
            self._count, self._tokens = 0, self._tokens % STEP
        self._count += 1

    def leave(self, left: int) -> None:
        """A request is over without a first token; ``left`` are still to be computed, the one in progress included."""
        if self._count >= left:
            self._count = max(0, left - 1)
        if not self._count:
            self._tokens = 0.0

    def begin(self, tokens: float) -> None:
        """A step is over, and the next one begins with what is left, so many tokens."""
        if tokens <= STEP:
            self._count, self._tokens = 0, 0.0

    def on_first_token(self, tokens: float, sent_at: float, began: float, *, is_new: bool) -> None:
        """A prompt's first token came: with the one before, or of a new step, which had begun at ``began``."""
        if not is_new:
            self._sharing.observe(is_shared=True)
            return
        if sent_at < self._began and tokens + self._computed <= STEP:
            self._sharing.observe(is_shared=False)
        self._began, self._computed = began, tokens

    def __repr__(self) -> str:
        return f"<NextStep of {self._count} prompts, {self._tokens:.0f} tokens>"
