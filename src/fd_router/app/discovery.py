"""The part of the composition root that opens the discoveries that the configuration asks for, in order of rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from fd_router.config.discovery import DnsName, KubernetesEntry
from fd_router.config.plugin_options import OptionFields
from fd_router.config.sections import Config
from fd_router.errors import ConfigError
from fd_router.instances.sources.contract import InstanceSource
from fd_router.instances.sources.dns_lookup import DnsLookup
from fd_router.instances.sources.dns_name import DnsInstances
from fd_router.instances.sources.kubernetes.api import ENDPOINT_SLICES, PODS, ClusterApi
from fd_router.instances.sources.kubernetes.pods import PodReader
from fd_router.instances.sources.kubernetes.slices import SliceReader
from fd_router.instances.sources.kubernetes.source import KubernetesInstances
from fd_router.instances.sources.members import Accept
from fd_router.instances.sources.template import Template
from fd_router.instances.sources.watched_file import WatchedFile

HEED_NETWORKS: Final = (DnsInstances, KubernetesInstances)
"""The discoveries whose instances must be in ``access.register-networks``: others than the operator name them."""

S = TypeVar("S", bound=msgspec.Struct)

Open = Callable[[], InstanceSource]


def open_discoveries(config: Config, accept: Accept) -> Sequence[InstanceSource]:
    """Make them; the first is the highest. ``accept`` raises RegistrationError for what can't be a member here.

    Raises ConfigError with a line for each problem.
    """
    sources: list[InstanceSource] = []
    problems: list[str] = []
    for open_one in _openers(config, accept):
        try:
            sources.append(open_one())
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return sources


def _openers(config: Config, accept: Accept) -> Iterator[Open]:
    options = config.discovery
    if options.file:
        yield partial(WatchedFile, options.file, accept, options.file_check_secs)
    for name, given in options.dns.items():
        yield partial(_dns, name, given, accept)
    for name, given in options.kubernetes.items():
        yield partial(_kubernetes, name, given, accept)


def _dns(name: str, given: object, accept: Accept) -> DnsInstances:
    key = f"discovery.dns.{name}"
    options = _read(DnsName, "a DNS name", key, given)
    template = Template(f"{key}.registration", options.registration, accept)
    return DnsInstances(name, options, DnsLookup(name, options), template)


def _kubernetes(name: str, given: object, accept: Accept) -> InstanceSource:
    key = f"discovery.kubernetes.{name}"
    options = _read(KubernetesEntry, "a selection of Pods", key, given)
    template = Template(f"{key}.registration", options.registration, accept, is_whole=False)
    if options.resource == "endpointslices":
        slices = SliceReader(key, options, template)
        return KubernetesInstances(name, ClusterApi(key, options, ENDPOINT_SLICES), slices)
    if options.family != "ipv4":
        raise ConfigError(f"{key}.family: is for resource: endpointslices; of a Pod the address is taken that it has")
    return KubernetesInstances(name, ClusterApi(key, options, PODS), PodReader(key, options, template))


def _read(struct: type[S], what: str, key: str, given: object) -> S:
    """Read the options of one entry. Raises ConfigError that begins with the ``key`` of what is wrong."""
    if not isinstance(given, Mapping | None):
        raise ConfigError(f"{key}: {str(given)[:80]!r} is no mapping of its options")
    values: dict[str, Any] = OptionFields.of_struct(struct).convert(what, key, {}, given or {})
    return struct(**values)
