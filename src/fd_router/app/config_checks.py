"""Checks of a configuration beyond its own text: the files and plug-ins that it names, read as the router would."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from fd_router.admission import checks as admission
from fd_router.app.endpoints import endpoints_of
from fd_router.app.kv_wanted import package_problem
from fd_router.app.record_sinks import load_record_sinks
from fd_router.app.writable import unwritable
from fd_router.config.connections import read_connections
from fd_router.config.discovery import DiscoveryConfig
from fd_router.config.loading import Config, Report, examine
from fd_router.config.origins import located
from fd_router.config.state import StateConfig
from fd_router.config.telemetry import TelemetryConfig
from fd_router.engines.dialects import open_dialects
from fd_router.errors import ConfigError
from fd_router.http.instance_access import access_problems
from fd_router.http.listener import EVERY_ADDRESS
from fd_router.http.tls import tls_problems
from fd_router.instances.registration import require_served
from fd_router.instances.sources.loading import open_sources
from fd_router.instances.sources.named import read_named
from fd_router.scheduling.policies import per_role
from fd_router.scheduling.policy import Need
from fd_router.state.redis.client import open_client
from fd_router.tokenization.local import tokenizer_problems
from fd_router.tokenization.service import tokenizer_address

_ALL_OF_A_KIND = frozenset({*EVERY_ADDRESS, "::"})
"""Hosts that take a port at every address, of one version of IP at least."""


def examine_with_files(path: str | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Report:
    """Return what ``config.loading.examine`` does, and what is wrong with what the configuration names."""
    report = examine(path, flags, environ)
    found = located(find_problems(report.config), report.origins)
    return msgspec.structs.replace(report, problems=(*report.problems, *found))


def find_problems(config: Config) -> Sequence[str]:
    """Return a line for each problem. Nothing is changed, and nobody is sent anything."""
    found = (
        *_policy_problems(config),
        *_tokenizer_problems(config),
        *_raised(partial(endpoints_of, config.server)),
        *_raised(partial(open_sources, config.instances)),
        *_raised(partial(load_record_sinks, config.telemetry)),
        *_register_problems(config),
        *admission.find_problems(config.access, config.admission),
        *tls_problems(config.tls),
        *unwritable(config),
        *_access_problems(config),
        *_raised(partial(_open_state, config.state)),
        *_raised(partial(_open_spans, config.telemetry)),
        *_same_ports(config),
        *_raised(lambda: config.models.checked),
    )
    return tuple(found)


def _access_problems(config: Config) -> Sequence[str]:
    """Check the files of TLS and keys towards instances."""
    try:
        return access_problems(read_connections(config.instances, config.tls))
    except ConfigError as error:
        return error.problems


def _raised(build: Callable[[], object]) -> Sequence[str]:
    """Build a part, and return what is wrong with it."""
    try:
        build()
    except ConfigError as error:
        return error.problems
    return ()


def _policy_problems(config: Config) -> Sequence[str]:
    """Check the policies, the one that only watches too, and the package by which they learn of KV events."""
    options, named, shadows = config.scheduler, per_role.policies_of(config), per_role.shadow_of(config)
    problems = partial(per_role.problems_of, options=options, clock=time.monotonic, rng=random.Random())
    if found := (*problems(named), *problems(shadows)):
        return found
    needs = per_role.needs_of(named, options.policy_folder) | per_role.needs_of(shadows, options.policy_folder)
    is_package_needed = options.kv_events == "on" and Need.PREFIX_INDEX in needs
    return _raised(partial(package_problem, options)) if is_package_needed else ()


def _tokenizer_problems(config: Config) -> Sequence[str]:
    path, url = config.scheduler.tokenizer_path, config.scheduler.tokenizer_url
    if path or not url:
        return tokenizer_problems(path, url)
    return _raised(partial(tokenizer_address, url))


def _open_state(options: StateConfig) -> None:
    """Make a client of the server that routers share, which connects to nothing yet."""
    if options.url:
        open_client(options, read_secs=None)


def _open_spans(options: TelemetryConfig) -> None:
    """Import what traces are made with."""
    if options.traces_endpoint:
        from fd_router.app.tracing import spans_module  # noqa: PLC0415  (it costs start-up time)

        spans_module(options)


def _same_ports(config: Config) -> Sequence[str]:
    server, access = config.server, config.access
    hosts = {server.host, access.control_host}
    if not server.port or access.control_port != server.port or (len(hosts) > 1 and not hosts & _ALL_OF_A_KIND):
        return ()
    return (f"access.control-port: {access.control_port} is server.port; the control port needs one of its own",)


def _register_problems(config: Config) -> Sequence[str]:
    """Check the engines' dialects, the instances that are named, and what names others, which may name them too."""
    try:
        dialects = open_dialects(config.instances)
    except ConfigError as error:
        return error.problems
    accept = partial(require_served, dialects=dialects, splitwise=config.server.splitwise)
    named = _raised(lambda: read_named(config.manager.instance, accept))
    if config.discovery == DiscoveryConfig() and not config.manager.register_path:
        return named
    from fd_router.app.discovery import open_discoveries  # noqa: PLC0415  YAML costs start-up time
    from fd_router.instances.sources.register_yaml import read_register_file  # noqa: PLC0415

    paths = [path for path in (config.manager.register_path, config.discovery.file) if path]
    in_files = [str(problem) for path in paths for problem in read_register_file(Path(path), accept).problems]
    return [*named, *_raised(partial(open_discoveries, config, accept)), *in_files]
