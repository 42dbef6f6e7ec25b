"""The slot limit: how many requests an instance decodes at once, learnt from first tokens that wait for an end."""

from __future__ import annotations

UNKNOWN = 1e9
"""A limit that nobody reaches."""

GRACE = 0.05
"""Seconds by which a first token may be late without saying anything: a few steps of decoding."""

LATE = 2.0
"""A prefill that takes so many times as long as expected had to wait for something."""

TOGETHER = 0.001
"""Seconds; requests that end within this ended in the same step."""

MEMORY = 64
"""Requests after which an observation of how long one decodes counts a third or so."""

FIRST_GUESS = 2.0
"""Seconds that a request decodes as long as none has ended."""

ENOUGH = 4
"""An instance that is full with fewer says nothing of the others."""


class SlotLimit:
    """The most requests that have had a first token and not their last, ``UNKNOWN`` at first.

    An engine that has no slot, or no memory, for another request begins with it when one ends. So when a first token
    is late, the instance is taken to be full with those that decode: it has *stalled*. The next first token tells: one
    that makes more of them decode refutes it, but where that was late, too, it waited for an end that isn't heard of
    here, and the instance is full with so many; one that comes about a prefill's time after an end, with as many as
    before, confirms it. What holds an instance back (``max_num_seqs``, KV memory, other routers' requests)
    doesn't matter. ``fleet``: what others have shown, or seem to show now, holds for one that hasn't been full yet.
    """

    __slots__ = (
        "_before",
        "_confirmed",
        "_fleet",
        "_has_passed",
        "_most",
        "_residence",
        "_stalled",
        "_weight",
        "decoding",
        "freed_at",
    )

    def __init__(self, fleet: SlotLimit | None = None) -> None:
        self.decoding = 0
        self.freed_at = -UNKNOWN  # when a request ended last
        self._fleet = fleet
        self._confirmed = UNKNOWN
        self._stalled = UNKNOWN
        self._most = 0  # that ever decoded at once
        self._has_passed = False  # whether the first token that came last showed that a stall was none
        self._before = 0  # how many decoded before the last end
        self._residence = 0.0  # seconds from the first token to the end
        self._weight = 0.0

    @property
    def limit(self) -> float:
        """The limit as far as it is known."""
        limit, stalled = self._confirmed, self._stalled
        if limit == UNKNOWN and self._fleet is not None:
            limit, most = self._fleet.limit, self._most
            limit = most if most > limit else limit  # noqa: FURB136  it is asked five times a decision: a call costs more
        return stalled if stalled < limit else limit  # noqa: FURB136  as above

    @property
    def residence(self) -> float:
        """Seconds that a request decodes: over the limit, those between two ends while the instance is full."""
        if self._weight:
            return self._residence
        return self._fleet.residence if self._fleet is not None else FIRST_GUESS

    @property
    def is_full(self) -> bool:
        """Whether another first token would show that more can decode than was thought."""
        return self.decoding >= self.limit

    def on_stall(self) -> None:
        """A first token is late. All others of the fleet will do alike: no reason to find that out one by one."""
        if self.decoding < self.limit:
            self._stalled = max(1, self.decoding)
            if self._fleet is not None and self.decoding >= ENOUGH:
                self._fleet.suspect(self.decoding)

    def suspect(self, limit: float) -> None:
        """One of the fleet seems to be full with so many."""
        self._stalled = min(self._stalled, limit)

    def suspect_no_more(self, limit: float) -> None:
        """The one that seemed to be full with so many isn't. One that is with fewer still seems to be."""
        if self._stalled >= limit:
            self._stalled = UNKNOWN

    def confirm(self, limit: float) -> None:
        """It is the limit."""
        self._confirmed, self._stalled = limit, UNKNOWN

    def on_first_token(self) -> None:
        """One more decodes."""
        self.decoding += 1
        self._has_passed = self.decoding > self._stalled
        self.pass_by(self.decoding)
        if self._fleet is not None:
            self._fleet.pass_by(self.decoding)

    def pass_by(self, decoding: int) -> None:
        """So many decode at once: what is less is no limit."""
        self._most = max(self._most, decoding)
        if decoding > self._stalled:
            self._stalled = UNKNOWN
        self._confirmed = max(self._confirmed, decoding)

    def on_end(self, began: float, now: float) -> None:
        """One that decoded since ``began`` has ended."""
        if now - self.freed_at > TOGETHER:
            self._before = self.decoding
        self.decoding -= 1
        self.freed_at = now
        self.count(now - began)
        if self._fleet is not None:
            self._fleet.count(now - began)

    def prefill_secs(self, secs: float, expected: float, now: float) -> float:
        """Return how much of the ``secs`` until a first token was its prefill, and learn from the rest.

        Below 0: it can't be told.
        """
        since = now - self.freed_at
        if secs <= LATE * expected + GRACE:
            return secs
        if since >= secs or since > LATE * expected + GRACE:  # it didn't wait for a slot of those known here
            if self._has_passed:  # but perhaps for another's
                self.on_stall()
                return -1.0
            self._refute()
            return secs
        if self._before >= self.limit and self.decoding <= self._before:
            self.confirm(self._before)
            if self._fleet is not None and self._before >= ENOUGH:
                self._fleet.confirm(self._before)
            return since if since > TOGETHER else -1.0  # in the same step: it was computed before
        self._stalled = self._before
        return -1.0

    def _refute(self) -> None:
        """Something else made it wait: what it seemed to show of the fleet doesn't hold either."""
        if self._fleet is not None:
            self._fleet.suspect_no_more(self._stalled)
        self._stalled = UNKNOWN

    def count(self, residence: float) -> None:
        """A request decoded for so long."""
        weight = self._weight = min(self._weight + 1, MEMORY)
        self._residence += (residence - self._residence) / weight

    def __repr__(self) -> str:
        return f"<SlotLimit {self.limit:g}, {self.decoding} decoding>"
