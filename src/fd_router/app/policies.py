"""The part of the composition root that builds policies: what they look at, and what stands around them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from fd_router.app.choice_report import ChoiceReport
from fd_router.app.shadow import make_shadow
from fd_router.config.loading import Config, SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.scheduling.decision_header import DecisionHeaderPolicy
from fd_router.scheduling.environment import Environment, Later, MakeLookup
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.plugins.errors import PluginErrors
from fd_router.scheduling.plugins.guard import PluginGuard
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.policies.per_role import (
    NamedPolicy,
    needs_of,
    policies_of,
    problems_of,
    read_engine_prompt,
    shadow_of,
)
from fd_router.scheduling.policy import Need, Policy
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.prefix.told_index import ToldPrefixIndex
from fd_router.scheduling.timing import TimedPolicy
from fd_router.state.topics.learning import SharedLearning
from fd_router.telemetry.metrics.scheduling import DECISION_BOUNDS
from fd_router.telemetry.telemetry import Telemetry

if TYPE_CHECKING:  # it needs NumPy, and few routers record
    from fd_router.scheduling.recording.recorder import Recorder

TIMED_DECISIONS = 8
"""One decision of so many is timed: looking at a clock twice takes longer than most decisions."""


class PolicyNames(msgspec.Struct, frozen=True):
    """Which policies there are to be, and what they need."""

    in_force: Mapping[str, NamedPolicy]  # by role
    shadows: Mapping[str, NamedPolicy]  # the same of those that decide beside them
    needs_in_force: frozenset[Need]
    needs: frozenset[Need]  # of all
    read_engine_prompt: bool  # whether those in force do that go by prefixes


def read_names(config: Config, rng: random.Random) -> PolicyNames:
    """Read which policies ``config`` names. Raises ConfigError with a line for all that is wrong with them."""
    options = config.scheduler
    named, shadows = policies_of(config), shadow_of(config)
    if problems := [each for those in (named, shadows) for each in problems_of(those, options, time.monotonic, rng)]:
        raise ConfigError(*problems)
    folder = options.policy_folder
    needs = needs_of(named, folder)
    return PolicyNames(named, shadows, needs, needs | needs_of(shadows, folder), read_engine_prompt(named, folder))


class SharedViews(msgspec.Struct, frozen=True):
    """What the policies of all roles look at."""

    index: PrefixIndex
    loads: ReportedLoads
    learning: SharedLearning | None
    recorder: Recorder | None = None


def share(options: SchedulerConfig, learning: SharedLearning | None, recorder: Recorder | None) -> SharedViews:
    """Make what the policies look at; ``recorder`` hears of what changes there."""
    if recorder is not None:
        return _share_recorded(options, learning, recorder)
    index = make_index(time.monotonic, options, PrefixIndex if learning is None else ToldPrefixIndex)
    return SharedViews(index, ReportedLoads(time.monotonic, options.load_max_age_secs), learning)


def _share_recorded(options: SchedulerConfig, learning: SharedLearning | None, recorder: Recorder) -> SharedViews:
    from fd_router.scheduling.recording.recorded_views import (  # noqa: PLC0415
        RecordedIndex,
        RecordedLoads,
        RecordedToldIndex,
    )

    kind = RecordedIndex if learning is None else RecordedToldIndex
    index, loads = make_index(recorder.clock, options, kind), RecordedLoads(recorder.clock, options.load_max_age_secs)
    assert isinstance(index, RecordedIndex)
    index.recorder = loads.recorder = recorder
    return SharedViews(index, loads, learning, recorder)


class PolicyMaker:
    """Makes the policies of all roles, as often as there are models. ``lookups``: by role, None for the index' own."""

    def __init__(
        self,
        config: Config,
        names: PolicyNames,
        views: SharedViews,
        telemetry: Telemetry,
        rng: random.Random,
        lookups: Callable[[str], MakeLookup] | None,
    ) -> None:
        self._config = config
        self._names = names
        self._views = views
        self._telemetry = telemetry
        self._rng = rng
        self._lookups = lookups
        self._has_index = Need.PREFIX_INDEX in names.needs_in_force

    def make(self) -> dict[str, Policy]:
        """Make one of each role. Raises ConfigError."""
        return {role: self._make(role, named) for role, named in self._names.in_force.items()}

    def _make(self, role: str, named: NamedPolicy) -> Policy:
        """Make the policy of a role, with its shadow and what tells of its decisions."""
        config, views, load_table = self._config, self._views, LoadTable()
        policy = self._make_in_force(role, named, load_table)
        if (shadow := self._names.shadows.get(role)) is not None:
            index = views.index if self._has_index else None
            policy = make_shadow(
                policy,
                shadow,
                role,
                config.scheduler,
                self._telemetry,
                index,
                views.loads,
                load_table,
                reads_engine_prompt=index is None or self._names.read_engine_prompt,
            )
        return DecisionHeaderPolicy(policy, role, named.name) if config.proxy.explain_header != "off" else policy

    def _make_in_force(self, role: str, named: NamedPolicy, load_table: LoadTable) -> Policy:
        """Make the policy itself: recorded, guarded if it is a plug-in, and timed."""
        metrics, recorder = self._telemetry.metrics.scheduling, self._views.recorder
        environment = self._environment(role, load_table)
        policy = make_policy(named.name, environment, self._config.scheduler, own_options=named.options, key=named.key)
        if recorder is not None:
            from fd_router.scheduling.recording.recorded_policy import RecordedPolicy  # noqa: PLC0415

            policy = RecordedPolicy(policy, recorder, role, named.name)
        if named.is_plugin:
            count = partial(metrics.policy_failed, named.name)
            errors = PluginErrors(named.name, count=count, log=self._telemetry.log.error, clock=time.monotonic)
            policy = PluginGuard(policy, RequestNumPolicy(environment), errors)
        return TimedPolicy(policy, metrics.decisions(role), DECISION_BOUNDS, time.perf_counter, every=TIMED_DECISIONS)

    def _environment(self, role: str, load_table: LoadTable) -> Environment:
        metrics, views, recorder = self._telemetry.metrics, self._views, self._views.recorder
        later: Later | None = None  # a pair is sent at once
        if role == "mixed":
            later = asyncio.get_running_loop().call_later
            later = later if recorder is None else recorder.later(later)
        hits = metrics.scheduling.hits(role) if self._has_index else None
        return Environment(
            time.monotonic if recorder is None else recorder.clock,
            self._rng if recorder is None else recorder.random,
            ChoiceReport(self._telemetry, hits, self._config.scheduler) if hits is not None else None,
            role=role,
            predictions=metrics.predictions.of(role),
            later=later,
            index=views.index,
            reported_loads=views.loads,
            load_table=load_table,
            learning=views.learning,
            lookup=None if self._lookups is None else self._lookups(role),
        )
