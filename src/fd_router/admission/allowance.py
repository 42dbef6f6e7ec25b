"""The rate limit: what one API key may still do: requests at once, requests and tokens a minute."""

from __future__ import annotations

import math

from fd_router.admission.keys import ApiKey
from fd_router.errors import LimitError

MINUTE = 60.0
SOON = 1
"""Seconds after which to come again when it isn't known when one of the key's own requests will end."""


class Bucket:
    """Tokens that fill up steadily, ``per_minute`` in a minute and at most so many. Times are monotonic seconds.

    It may go below zero: then it fills for longer.
    """

    __slots__ = ("_filled_at", "level", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self.level = float(per_minute)
        self._filled_at = now

    def fill(self, now: float) -> None:
        """Add what has come since the last time."""
        self.level = min(float(self.per_minute), self.level + (now - self._filled_at) * self.per_minute / MINUTE)
        self._filled_at = now

    def seconds_until(self, amount: float) -> float:
        """Return when ``amount`` is there; what is more than it holds counts as all it holds. Call ``fill`` before."""
        missing = min(amount, self.per_minute) - self.level
        return 0.0 if missing <= 0 else missing * MINUTE / self.per_minute

    def resize(self, per_minute: int) -> None:
        """Hold another amount from now on; the share that was used stays used.

        Not the number: where there was no limit, or a higher one, that may be more than fills up in hours.
        """
        self.level = self.level * per_minute / self.per_minute if self.per_minute else float(per_minute)
        self.per_minute = per_minute

    def __repr__(self) -> str:
        return f"<Bucket {self.level:.1f}/{self.per_minute}>"


class Allowance:
    """One key, and what its requests have used. It outlives changes of the key's entry in the file."""

    __slots__ = ("_requests_left", "_tokens_left", "key", "refused", "requests", "running", "tokens")

    def __init__(self, key: ApiKey, now: float) -> None:
        self.key = key
        self.running = 0
        self.requests = self.refused = self.tokens = 0  # since the start, for metrics
        self._requests_left = Bucket(key.requests_per_minute, now)
        self._tokens_left = Bucket(key.tokens_per_minute, now)

    def change(self, key: ApiKey, now: float) -> None:
        """Go by another entry from now on."""
        self.key = key
        for bucket, per_minute in (
            (self._requests_left, key.requests_per_minute),
            (self._tokens_left, key.tokens_per_minute),
        ):
            bucket.fill(now)
            bucket.resize(per_minute)

    def take(self, tokens: int, now: float) -> None:
        """Count one more request with about ``tokens`` prompt tokens. Raises LimitError, and counts nothing then."""
        key = self.key
        self.check_concurrent()
        if key.requests_per_minute:
            self._check(self._requests_left, "requests", 1, now)
        if key.tokens_per_minute:
            self._check(self._tokens_left, "tokens", tokens, now)
        self._requests_left.level -= 1
        self._tokens_left.level -= tokens
        self.running += 1
        self.requests += 1
        self.tokens += tokens

    @property
    def has_minute_limits(self) -> bool:
        """Whether it may do so much a minute and no more."""
        return bool(self.key.requests_per_minute or self.key.tokens_per_minute)

    def check_concurrent(self) -> None:
        """Raise LimitError when it has as many requests as it may have at once."""
        key = self.key
        if key.max_concurrent and self.running >= key.max_concurrent:
            raise self._over("requests", f"{key.max_concurrent} requests at once", SOON)

    def count(self, tokens: int) -> None:
        """Count a request that somebody else has let in: its place, which it gives back, is taken already."""
        self.requests += 1
        self.tokens += tokens

    def know(self, requests_left: float, tokens_left: float, now: float) -> None:
        """Learn what is left for all routers together."""
        for bucket, left in ((self._requests_left, requests_left), (self._tokens_left, tokens_left)):
            bucket.fill(now)
            bucket.level = left

    def over(self, tokens: int) -> LimitError:
        """Return the error for a request that isn't let in, by what is known to be left."""
        pairs = ((self._requests_left, "requests", 1), (self._tokens_left, "tokens", tokens))
        waits = [(bucket.seconds_until(most), bucket, kind) for bucket, kind, most in pairs if bucket.per_minute]
        seconds, bucket, kind = max(waits, key=lambda wait: wait[0])
        return self._over(kind, f"{bucket.per_minute} {kind} a minute", max(SOON, math.ceil(seconds)))

    def give_back(self) -> None:
        """One of the requests is over."""
        self.running -= 1

    def correct(self, tokens: int) -> None:
        """Count ``tokens`` more than were taken (or fewer): the engine has told how many there were."""
        self._tokens_left.level -= tokens
        self.tokens += tokens

    def left(self) -> tuple[tuple[str, int, int], ...]:
        """Return (``requests`` or ``tokens``, the limit, what is left of it) for each limit a minute that there is."""
        pairs = (("requests", self._requests_left), ("tokens", self._tokens_left))
        return tuple((kind, one.per_minute, max(0, int(one.level))) for kind, one in pairs if one.per_minute)

    def _check(self, bucket: Bucket, kind: str, amount: int, now: float) -> None:
        bucket.fill(now)
        seconds = bucket.seconds_until(amount)
        if seconds > 0:
            raise self._over(kind, f"{bucket.per_minute} {kind} a minute", math.ceil(seconds))

    def _over(self, kind: str, limit: str, seconds: int) -> LimitError:
        message = f"Rate limit reached for the API key '{self.key.name}': {limit}. Please try again in {seconds} s."
        return LimitError(message, kind=kind, retry_after=seconds)

    def __repr__(self) -> str:
        return f"<Allowance {self.key.name} running={self.running}>"
