"""The topic ``trials``: what came of the requests on trial that half-open circuits let through."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fd_router.state.topic import NewsTopic

_decoder = msgspec.msgpack.Decoder(dict[str, float])


class SharedTrialResults(NewsTopic[float]):
    """Tells how trials ended: key → for how many seconds the circuit is open again, 0: it is closed."""

    name = "trials"

    def __init__(self, flush: Callable[[], None]) -> None:
        super().__init__()
        self._flush = flush
        self.on_over: Callable[[str, float], None] = _nobody

    def tell(self, key: str, seconds: float) -> None:
        """A trial of this process has ended."""
        self._news[key] = seconds
        self._flush()

    def take(self, process: str, payload: msgspec.Raw) -> None:  # noqa: ARG002
        """See ``Topic``."""
        for key, seconds in _decoder.decode(payload).items():
            self.on_over(key, seconds)


def _nobody(key: str, seconds: float, /) -> None:
    """Without circuit breakers nobody is concerned."""
