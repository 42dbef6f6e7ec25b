"""Common limits: the keys' limits a minute where all workers of a host ask one process."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.admission.allowance import Bucket
from fd_router.bus import Ask, Grant


class CommonLimits:
    """Buckets by key; does what ``state.redis.scripts`` has a server do."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[Bucket, Bucket]] = {}

    def reserve(self, ask: Ask) -> Grant:
        """Let the first ones of an ask's requests in, as many as the key's limits allow."""
        requests, tokens = self._filled(ask)
        granted = 0
        for size in ask.tokens:
            if requests.per_minute and requests.seconds_until(1) > 0:
                break
            if tokens.per_minute and tokens.seconds_until(size) > 0:
                break
            requests.level -= 1
            tokens.level -= size
            granted += 1
        return Grant(granted, requests.level, tokens.level)

    def settle(self, ask: Ask, requests: int) -> None:
        """Take ``requests``, and the ask's tokens, from what is left: they were let in without asking."""
        of_requests, of_tokens = self._filled(ask)
        of_requests.level -= requests
        of_tokens.level -= sum(ask.tokens)

    def _filled(self, ask: Ask) -> tuple[Bucket, Bucket]:
        now = self._clock()
        found = self._buckets.get(ask.key)
        if found is None:
            found = self._buckets[ask.key] = Bucket(ask.requests_per_minute, now), Bucket(ask.tokens_per_minute, now)
        for bucket, per_minute in zip(found, (ask.requests_per_minute, ask.tokens_per_minute), strict=True):
            bucket.fill(now)
            if bucket.per_minute != per_minute:
                bucket.resize(per_minute)
        return found

    def __repr__(self) -> str:
        return f"<CommonLimits of {len(self._buckets)} keys>"
