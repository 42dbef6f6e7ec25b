"""A name in the DNS whose addresses are instances, looked up again whenever its answer's time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from fd_router.config.discovery import DnsName
from fd_router.config.host_names import is_name
from fd_router.errors import ConfigError
from fd_router.instances.registration_keys import MAX_LABEL
from fd_router.instances.sources.dns_lookup import Found, LookupFailedError
from fd_router.instances.sources.members import SourceMembers
from fd_router.instances.sources.template import Template

FIRST_RETRY_SECS = 1.0
"""After the first look-up that failed; twice as long after each that follows, up to the name's ``max-secs``."""


class Lookup(Protocol):
    """Looks the name up; see ``dns_lookup``."""

    @property
    def is_srv(self) -> bool:
        """Whether its records have ports of their own."""

    async def look_up(self) -> Found:
        """Raises LookupFailedError."""


class DnsInstances:
    """The source that names what is behind a name. A look-up that fails, or finds nothing, changes nothing."""

    def __init__(
        self,
        name: str,
        options: DnsName,
        lookup: Lookup,
        template: Template,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Raise ConfigError for what is no name, and for instances without a port."""
        self.name = f"dns {name}"
        self._labels = {"dns": name} if len(name) <= MAX_LABEL else {}
        self._options = options
        self._lookup = lookup
        self._template = template
        self._sleep = sleep
        if not is_name(name.lower().removesuffix(".")):
            raise ConfigError(f"discovery.dns.{name[:80]}: it is no name in the DNS")
        if options.port is None and not lookup.is_srv:
            raise ConfigError(f"discovery.dns.{name}: it needs 'port': the port of the instances")

    async def run(self, members: SourceMembers) -> None:
        """Name what is found, for as long as it holds."""
        retry = FIRST_RETRY_SECS
        while True:
            try:
                found = await self._lookup.look_up()
            except LookupFailedError as error:
                members.health.failed(str(error))
                pause, retry = min(retry, self._options.max_secs), 2 * retry
            else:
                retry = FIRST_RETRY_SECS
                named = (self._template.fill(host, port, labels=self._labels) for host, port in found.places)
                await members.replace_in_slices(named)
                pause = max(self._options.min_secs, min(found.ttl, self._options.max_secs))
            await self._sleep(pause)

    def __repr__(self) -> str:
        return f"<DnsInstances {self.name}>"
