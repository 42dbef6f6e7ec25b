"""``fd_metrics_score`` and ``fd_remote_metrics_score``: the candidate with the lowest score of running and waiting."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies.least import LeastLoadPolicy
from fd_router.scheduling.policy import Need


class MetricsScoreOptions(msgspec.Struct, frozen=True):
    """The options of ``fd_remote_metrics_score``."""

    waiting_weight: Annotated[float, msgspec.Meta(ge=0)]  # what a waiting request counts in running ones


class MetricsScorePolicy(LeastLoadPolicy):
    """``fd_metrics_score``: lowest ``running + waiting × waiting-weight`` of the counts kept in memory.

    Section 4 of FastDeploy's router protocol. A router can't see which of its requests wait inside an instance, so
    all that it has sent count as running and waiting is 0, as in FastDeploy's Go program.
    """

    lowest = "lowest score of running and waiting requests, as this router counts them"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, environment.load_table.running)


class RemoteMetricsScorePolicy(LeastLoadPolicy):
    """``fd_remote_metrics_score``: lowest ``running + waiting × waiting-weight`` of the instances' own gauges.

    Section 4 of FastDeploy's router protocol. To the figures read last comes what this router has sent since and
    not got back; without figures its own counts are used.
    """

    lowest = "lowest score of running and waiting requests, as the instances tell"

    needs = frozenset({Need.REPORTED_LOADS})
    Options = MetricsScoreOptions

    def __init__(self, environment: Environment, options: MetricsScoreOptions) -> None:
        loads = environment.reported_loads.loads(options.waiting_weight, environment.load_table.running)
        super().__init__(environment, loads)
