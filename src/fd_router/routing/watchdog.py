"""The watchdog: finds requests that nothing happens to any more, and ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from fd_router.bugs import bugs_told
from fd_router.config.live import LiveConfig
from fd_router.config.sections import Config
from fd_router.telemetry.record import RequestRecord

AT_A_TIME = 500
"""Requests looked at before others get their turn."""

SLACK_SECS = 5.0
"""How much longer than all time limits together a request may be without a sign of life."""


class Watched(Protocol):
    """A request under way."""

    record: RequestRecord

    @property
    def bytes_sent(self) -> int:
        """Bytes of the answer handed to the client's connection so far."""

    @property
    def waits_until(self) -> float:
        """Until when it may wait in the queue, in seconds of the clock; 0.0: it doesn't wait there."""

    def on_overdue(self, seconds: float) -> None:
        """Nothing has happened for so long: end."""


class Patience(NamedTuple):
    """How long a request may be without a sign of life, in seconds."""

    before_first: float  # byte of its answer
    after: float

    def or_longer(self, other: Patience) -> Patience:
        """Return the longer limit of both kinds."""
        return Patience(max(self.before_first, other.before_first), max(self.after, other.after))


class _Seen(NamedTuple):
    """What a request looked like last. Not the request, which is freed, with its body, as soon as it is over."""

    record: RequestRecord
    state: tuple[int, float, int]
    since: float
    patience: Patience  # what its own time limits may have been taken from


def patience_of(config: Config) -> Patience:
    """Add up all that a request may wait for in turn, but for the queue, and some more."""
    proxy = config.proxy
    before_sent = config.scheduler.tokenizer_timeout_secs + proxy.connect_timeout_secs
    answer = proxy.first_byte_timeout_secs + (proxy.prefill_timeout_secs if config.server.splitwise else 0.0)
    return Patience(before_sent + answer + SLACK_SECS, proxy.stall_timeout_secs + SLACK_SECS)


class Watchdog:
    """Looks at every request once an interval, beside all time limits: none should ever be left to it.

    Whatever happens to a request changes its record: another attempt, the first byte, more bytes. One whose record
    stays the same for longer than any time limit allows is ended. The request itself does nothing for that.
    The queue's time limit is the request's own. A reload changes the other limits of what begins after it: what waits
    already goes by those that were, so its patience is the longer one of both.
    """

    def __init__(self, requests: Callable[[], Iterable[Watched]], live: LiveConfig, clock: Callable[[], float]) -> None:
        self._requests = requests
        self._live = live
        self._clock = clock
        self._seen: dict[int, _Seen] = {}  # by the record's id, which is no other's while the record is here
        self._before = patience_of(live.current)  # when it looked last

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._live.sleep(lambda config: config.protection.ledger_interval_secs)
            await self._sweep_in_slices()

    async def _sweep_in_slices(self) -> None:
        requests = tuple(self._requests())
        patience = self._patience()
        for start in range(0, len(requests), AT_A_TIME):
            self._look(requests[start : start + AT_A_TIME], patience)
            await asyncio.sleep(0)
        self._forget(requests)

    def sweep(self) -> None:
        """Look at every request once."""
        requests = tuple(self._requests())
        self._look(requests, self._patience())
        self._forget(requests)

    def _patience(self) -> Patience:
        """Return the longest that is right for what has begun since it looked last."""
        before, self._before = self._before, patience_of(self._live.current)
        return self._before.or_longer(before)

    def _look(self, requests: Iterable[Watched], patience: Patience) -> None:
        now = self._clock()
        for request in requests:
            record = request.record
            state = (record.attempts, record.first_byte_at, request.bytes_sent)
            seen = self._seen.get(id(record))
            if seen is None or seen.state != state:
                self._seen[id(record)] = _Seen(record, state, now, patience)
                continue
            longest = seen.patience.or_longer(patience)
            limit = longest.after if record.first_byte_at else longest.before_first
            if now - max(seen.since, request.waits_until) > limit:
                del self._seen[id(record)]
                with bugs_told("the watchdog failed"):
                    request.on_overdue(now - seen.since)

    def _forget(self, requests: Iterable[Watched]) -> None:
        alive = {id(request.record) for request in requests}
        self._seen = {record: seen for record, seen in self._seen.items() if record in alive}

    def __repr__(self) -> str:
        return f"<Watchdog {len(self._seen)} seen>"
