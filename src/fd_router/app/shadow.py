"""The part of the composition root that puts a shadow policy beside the one in force."""

from __future__ import annotations

import random
import time
from functools import partial

from fd_router.config.loading import SchedulerConfig
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.plugins.errors import PluginErrors
from fd_router.scheduling.plugins.guard import PluginGuard
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.policies.per_role import NamedPolicy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.shadow.index_view import OwnIndex, SharedIndexView
from fd_router.scheduling.shadow.shadow_policy import ShadowPolicy
from fd_router.scheduling.shadow.watch import Watch
from fd_router.telemetry.telemetry import Telemetry


def make_shadow(
    policy: Policy,
    named: NamedPolicy,
    role: str,
    options: SchedulerConfig,
    telemetry: Telemetry,
    index: PrefixIndex | None,
    loads: ReportedLoads,
    load_table: LoadTable,
    *,
    reads_engine_prompt: bool,
) -> ShadowPolicy:
    """Put the shadow that is ``named`` beside ``policy``. It has no draws of the policies', and holds no request.

    ``index``: that of the policy in force; None: it has none, so the shadow keeps one of its own.
    ``reads_engine_prompt``: whether the index is of prompts as engines have them.
    """
    metrics = telemetry.metrics.scheduling
    clock = time.monotonic
    view = make_index(clock, options, OwnIndex) if index is None else SharedIndexView(clock, index)
    assert isinstance(view, (OwnIndex, SharedIndexView))
    environment = Environment(
        clock,
        random.Random(),
        role=role,
        index=view,
        reported_loads=loads,
        load_table=load_table,
        reads_engine_prompt=reads_engine_prompt,
    )
    shadow = make_policy(named.name, environment, options, own_options=named.options, key=named.key)
    count = partial(metrics.policy_failed, named.name)
    errors = PluginErrors(f"{named.name} (shadow)", count=count, log=telemetry.log.error, clock=clock)
    guarded = PluginGuard(shadow, RequestNumPolicy(environment), errors)
    watch = Watch(time.process_time, time.perf_counter)
    return ShadowPolicy(policy, guarded, named.name, view, watch, metrics.shadow(role, named.name))
