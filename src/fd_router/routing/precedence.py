"""Reads a request's precedence, where a policy lets requests wait: its priority, its deadline, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from fd_router.admission.keys import ApiKey
from fd_router.config.live import LiveConfig
from fd_router.errors import BadRequestError
from fd_router.http.messages import Request
from fd_router.openai.precedence import Precedence

DEADLINE_HEADER: Final = "x-ttft-deadline-ms"
"""In how many ms a client wants its first token, counted from when its request was read."""

MOST_MS: Final = 86_400_000
"""A day: what is more is a mistake."""

_HEADER: Final = DEADLINE_HEADER.encode()
_SHOWN: Final = 40


class PrecedenceReader:
    """``weights``: of the priorities. ``clock``: monotonic seconds, the policies' own."""

    def __init__(self, live: LiveConfig, weights: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._live = live
        self._weights = weights
        self._clock = clock

    def read(self, request: Request, priority: str, party: str, key: ApiKey | None) -> Precedence:
        """Return the precedence. Raises BadRequestError for a deadline that is none."""
        given = request.header(_HEADER)
        ms = _deadline_ms(given) if given is not None else key.ttft_deadline_ms if key is not None else 0
        deadline = self._clock() + ms / 1000 if ms else 0.0
        refuses = bool(ms) and self._live.current.admission.refuse_late
        return Precedence(priority, self._weights[priority], deadline, party, refuses)


def _deadline_ms(given: bytes) -> int:
    text = given.decode("latin-1").strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 8 or not 0 < int(text) <= MOST_MS:
        raise BadRequestError(
            f"{DEADLINE_HEADER}: {text[:_SHOWN]!r} is no whole number of ms from 1 to {MOST_MS}; leave it out for none",
            code="invalid_deadline",
        )
    return int(text)
