"""The part of the composition root that says how a request to each inference endpoint begins."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from fd_router.api.access import is_own
from fd_router.config.dotted_path import dotted_paths
from fd_router.config.sections import ServerConfig
from fd_router.errors import ErrorBody, openai_error
from fd_router.http.client_stream import StartRequest
from fd_router.instances.exclusions import why_none
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.instances.whole_fleet import WholeFleet
from fd_router.openai.endpoints import Endpoint, Mode, open_endpoints, opened
from fd_router.scheduling.candidate_group import FirstGroup
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies.power_of_two import PowerOfTwoPolicy
from fd_router.scheduling.scheduler import Scheduler

Starter = Callable[[Endpoint], StartRequest]
"""Makes what begins the requests to one endpoint."""


Starters = Mapping[Mode, Starter]


def endpoints_of(options: ServerConfig) -> tuple[Endpoint, ...]:
    """Return the table of endpoints that the configuration asks for. Raises ConfigError."""
    built_in = opened(dotted_paths(options.open_endpoints))
    return open_endpoints(dotted_paths(options.endpoints), options.plugin_folder, is_own, built_in)


def starts(endpoints: Iterable[Endpoint], starters: Starters) -> dict[str, dict[str, StartRequest]]:
    """Return by path and method how a request begins."""
    table: dict[str, dict[str, StartRequest]] = {}
    for endpoint in endpoints:
        table.setdefault(endpoint.path, {})[endpoint.method] = starters[endpoint.mode](endpoint)
    return table


def error_bodies(endpoints: Iterable[Endpoint]) -> dict[str, ErrorBody]:
    """Return by path the shapes of errors that aren't OpenAI's."""
    return {endpoint.path: endpoint.error_body for endpoint in endpoints if endpoint.error_body is not openai_error}


def any_instance_scheduler(
    registry: Registry, clock: Callable[[], float], rng: random.Random, model: str
) -> Scheduler[Instance]:
    """Build who chooses, in splitwise mode, the single instance of a request for ``model`` that makes no pair.

    Prefill and decode instances alike have the model. Such a request is nothing but a prompt, which would hold up the
    streams of a decode instance: it goes to a prefill instance as long as one may be chosen. Of two at random it is the
    one with fewer requests: a choice that needs no view of the two groups together.
    """
    group = FirstGroup((registry.group("prefill", model), registry.group("decode", model)))
    return Scheduler(group, PowerOfTwoPolicy(Environment(clock, rng)), partial(why_none, registry, model))


def all_instances_scheduler(registry: Registry, clock: Callable[[], float], rng: random.Random) -> Scheduler[Instance]:
    """Build who chooses whom to ask next for an answer that any instance may keep, whatever its model and role."""
    return Scheduler(WholeFleet(registry), PowerOfTwoPolicy(Environment(clock, rng)), partial(why_none, registry))
