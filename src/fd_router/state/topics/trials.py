"""The topic ``trials``: what came of the requests on trial that half-open circuits let through."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fd_router.state.topic import Topic

_decoder = msgspec.msgpack.Decoder(dict[str, float])


class SharedTrialResults(Topic):
    """Tells how trials ended: key → for how many seconds the circuit is open again, 0: it is closed."""

    name = "trials"

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._news: dict[str, float] = {}
        self.on_over: Callable[[str, float], None] = _nobody

    def tell(self, key: str, seconds: float) -> None:
        """A trial of this process has ended."""
        self._news[key] = seconds
        self._flush()

    def gather(self, *, whole: bool) -> bytes | None:  # noqa: ARG002
        """See ``Topic``."""
        if not self._news:
            return None
        news, self._news = self._news, {}
        return msgspec.msgpack.encode(news)

    def take(self, process: str, payload: msgspec.Raw) -> None:  # noqa: ARG002
        """See ``Topic``."""
        for key, seconds in _decoder.decode(payload).items():
            self.on_over(key, seconds)


def _nobody(key: str, seconds: float, /) -> None:
    """Without circuit breakers nobody is concerned."""
