"""Record sinks of third parties, guarded: what they raise is counted and told, and harms no request."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from fd_router.errors import place_of
from fd_router.telemetry.record import RecordSink, RequestRecord

SILENT_SECONDS: Final = 60.0
"""A sink that fails is logged so often at most."""


class GuardedSink:
    """Passes records on to ``sink``, called ``name`` in the log, and survives what it does.

    Each failure is counted by ``count``, and told by ``log`` once a minute at most.
    """

    def __init__(
        self,
        name: str,
        sink: RecordSink,
        *,
        count: Callable[[], None],
        log: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._sink = sink
        self._count = count
        self._log = log
        self._clock = clock
        self._silent_until = -math.inf
        self._unsaid = 0

    def finished(self, record: RequestRecord) -> None:
        """Pass the record on."""
        try:
            self._sink.finished(record)
        except BaseException as error:  # noqa: BLE001  a library may call sys.exit()
            self._on_failure(error)

    def _on_failure(self, error: BaseException) -> None:
        self._count()
        self._unsaid += 1
        now = self._clock()
        if now < self._silent_until:
            return
        times = f" ({self._unsaid} times since the last such line)" if self._unsaid > 1 else ""
        self._log(f"The record sink {self._name} failed: {place_of(error)}{times}")
        self._silent_until, self._unsaid = now + SILENT_SECONDS, 0

    def __repr__(self) -> str:
        return f"<GuardedSink {self._name}>"
