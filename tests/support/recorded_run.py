"""A simulated router that is recorded as a running one is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.engine_model.runs import EngineSettings
from fd_router.devtools.report.outcomes import Outcome
from fd_router.devtools.simulate.simulator import Fleet, Simulator
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.recording.recorded_policy import RecordedPolicy
from fd_router.scheduling.recording.recorded_views import RecordedIndex, RecordedLoads
from fd_router.scheduling.recording.recorder import Recorder
from fd_router.scheduling.scheduler import Scheduler

ENGINE = EngineSettings(prefill_tokens_per_sec=5000, decode_secs=0.01, cache_tokens=60_000)


class RecordedSimulator(Simulator):
    """Tells, beside what a simulation tells, how long each answer was, as a router does that records."""

    def __init__(
        self, fleet: Fleet, policy: str, options: SchedulerConfig, path: Path, secret: bytes = bytes(32)
    ) -> None:
        super().__init__(fleet, policy, options)
        self._file = path.open("wb")
        self.recorder = recorder = Recorder(self._clock, self._file.write, secret, options.cache_block_size)
        numbers = {
            name: value for name, value in msgspec.structs.asdict(options).items() if type(value) in {int, float}
        }
        recorder.begin(0.0, numbers)
        (router,) = self._routers
        index = router.index = make_index(recorder.clock, options, RecordedIndex)
        loads = router.figures = RecordedLoads(recorder.clock, options.load_max_age_secs)
        index.recorder = loads.recorder = recorder
        environment = Environment(
            recorder.clock, recorder.random, later=recorder.later(self._later), index=index, reported_loads=loads,
            load_table=LoadTable(),
        )  # fmt: skip
        recorded = RecordedPolicy(make_policy(policy, environment, options), recorder, "mixed", policy)
        router.scheduler = Scheduler(router.group, recorded, str)

    def _finish(self, sent, token) -> None:
        super()._finish(sent, token)
        sent.decision.total_tokens(token.run.prompt.tokens + token.run.produced)

    def run(self, requests: Sequence[TraceRequest], on_progress=lambda _: None) -> list[Outcome]:
        outcomes = super().run(requests, on_progress)
        self._file.close()
        return outcomes


def recorded_run(
    path: Path,
    requests: Sequence[TraceRequest],
    policy: str,
    instances: int = 4,
    options: SchedulerConfig | None = None,
) -> list[Outcome]:
    """Serve the requests, and record it at ``path``."""
    return RecordedSimulator(Fleet(instances, ENGINE), policy, options or SchedulerConfig(), path).run(requests)
