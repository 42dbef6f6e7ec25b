"""What workers do together, whichever of them was asked: one page of metrics, one reload."""

from __future__ import annotations

import msgspec

from fd_router.api.reload import Outcome
from fd_router.app.reload import Reloader
from fd_router.app.state import METRICS, PAGE_SECONDS, RELOAD, RELOAD_SECONDS, Shared
from fd_router.app.workers.seat import Seat
from fd_router.telemetry.metrics.kept_counters import KeptCounters, Told
from fd_router.telemetry.metrics.merging import merged
from fd_router.telemetry.metrics.request import Metrics

_decoder = msgspec.msgpack.Decoder(Told)


class Workers:
    """Asks the other workers, and answers them. A process that is none does all for itself."""

    def __init__(self, shared: Shared | None, seat: Seat | None, metrics: Metrics, reloader: Reloader) -> None:
        self._shared = shared
        self._seat = seat
        self._metrics = metrics
        self._reloader = reloader
        self._kept = KeptCounters()
        if shared is not None and shared.host is not None:
            shared.host.calls.on(METRICS, self._tell_page)
            shared.host.calls.on(RELOAD, self._own_reload)

    @property
    def are_several(self) -> bool:
        """Whether there are any others."""
        return self._seat is not None

    async def pages(self) -> bytes:
        """Return the metrics of all, and the counters of those that have ended, or don't answer."""
        assert self._shared is not None
        own = self._own_told()
        pages, present = {own.worker: own.page}, [self._kept.learn(own.worker, own.page)]
        answers = await self._shared.ask_workers(METRICS, PAGE_SECONDS, msgspec.msgpack.encode(own))
        for worker, answer in answers.items():
            told = _read_told(worker, answer)
            pages[worker] = told.page
            present.append(self._kept.learn(worker, told.page))
            self._kept.take(told.known)
        return merged({**pages, **self._kept.without(present)})

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

    async def _tell_page(self, body: bytes) -> bytes:
        """Answer another worker, and remember what it says; one of the version before says nothing."""
        own = self._own_told()
        if not body:
            return own.page
        asking = _read_told("", body)
        self._kept.learn(asking.worker, asking.page)
        self._kept.take(asking.known)
        return msgspec.msgpack.encode(own)

    def _own_told(self) -> Told:
        assert self._seat is not None
        return Told(str(self._seat.index), b"".join(self._metrics.pages()), self._kept.all())

    async def _own_reload(self, _body: bytes) -> bytes:
        return msgspec.json.encode(await self._reloader.reload())


def _read_told(worker: str, told: bytes) -> Told:
    """Read what a worker tells; one of the version before tells its page alone."""
    return Told(worker, told, {}) if told.startswith(b"#") else _decoder.decode(told)
