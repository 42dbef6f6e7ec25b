"""What workers do together, whichever of them was asked: one page of metrics, one reload."""

from __future__ import annotations

import msgspec

from fd_router.api.reload import Outcome
from fd_router.app.reload import Reloader
from fd_router.app.state import METRICS, PAGE_SECONDS, RELOAD, RELOAD_SECONDS, Shared
from fd_router.app.workers.seat import Seat
from fd_router.telemetry.metrics.merging import merged
from fd_router.telemetry.metrics.request import Metrics


class Workers:
    """Asks the other workers, and answers them. A process that is none does all for itself."""

    def __init__(self, shared: Shared | None, seat: Seat | None, metrics: Metrics, reloader: Reloader) -> None:
        self._shared = shared
        self._seat = seat
        self._metrics = metrics
        self._reloader = reloader
        if shared is not None and shared.host is not None:
            shared.host.calls.on(METRICS, self._own_page)
            shared.host.calls.on(RELOAD, self._own_reload)

    @property
    def are_several(self) -> bool:
        """Whether there are any others."""
        return self._seat is not None

    async def pages(self) -> bytes:
        """Return the metrics of all."""
        assert self._seat is not None
        assert self._shared is not None
        others = await self._shared.ask_workers(METRICS, PAGE_SECONDS)
        return merged({str(self._seat.index): await self._own_page(b""), **others})

    async def reload(self) -> Outcome:
        """Read all files anew, here and then at the others; what only they have to say of it is a warning."""
        outcome = await self._reloader.reload()
        if outcome.problems or self._shared is None:
            return outcome
        warnings = list(outcome.warnings)
        for worker, answer in (await self._shared.ask_workers(RELOAD, RELOAD_SECONDS)).items():
            other = msgspec.json.decode(answer, type=Outcome)
            warnings += [f"worker {worker}: {problem}" for problem in other.problems]
        return msgspec.structs.replace(outcome, warnings=tuple(warnings))

    async def _own_page(self, _body: bytes) -> bytes:
        return b"".join(self._metrics.pages())

    async def _own_reload(self, _body: bytes) -> bytes:
        return msgspec.json.encode(await self._reloader.reload())
