"""Look-ups in the DNS: the addresses and ports behind a name, and for how long they hold. Its library is dnspython.

It reads an answer of 4,000 addresses, which TCP lets in, for a tenth of a second: so it works in threads.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple

from fd_router.config.discovery import DnsName
from fd_router.errors import ConfigError
from fd_router.http.pace import gather_few
from fd_router.threads import in_thread

MISSING = "discovery.dns needs the package dnspython: pip install 'dnspython>=2.6' (in a clone: pip install '.[dns]')"

DNS_PORT = 53

AT_ONCE: Final = 16
"""Targets of a service that are looked up at a time: there may be thousands."""


class LookupFailedError(Exception):
    """A look-up without an answer that names anything."""


class NoSuchNameError(LookupFailedError):
    """There is no such name."""


class Found(NamedTuple):
    """Where instances are: addresses with their ports, in order; and for how many seconds that holds."""

    places: Sequence[tuple[str, int]]
    ttl: float


class DnsLookup:
    """Looks one name up: its addresses, or its SRV records and the addresses of their targets."""

    def __init__(self, name: str, options: DnsName) -> None:
        """Raise ConfigError where dnspython is missing, or a name server has no address, or there is none."""
        try:
            self._dns: Any = import_module("dns.resolver")
        except ImportError:
            raise ConfigError(MISSING) from None
        self._name = name
        self._options = options
        self._resolver = self._make_resolver()

    @property
    def is_srv(self) -> bool:
        """Whether the name is a service's, as RFC 2782 writes them: ``_http._tcp.engines.example``."""
        return self._name.startswith("_")

    async def look_up(self) -> Found:
        """Ask for what is behind the name. Raises LookupFailedError, also for an answer that names nothing."""
        try:
            found = await (self._services() if self.is_srv else self._addresses(self._name, self._options.port or 0))
        except LookupFailedError:
            self._resolver = self._make_resolver()  # /etc/resolv.conf may be another one now
            raise
        if not found.places:
            raise LookupFailedError(f"{self._name} has no addresses")
        return Found(await in_thread(partial(sorted, set(found.places), key=_order)), found.ttl)

    async def _services(self) -> Found:
        """Ask for the SRV records, and for each target's addresses. Priorities and weights are left to the policy."""
        answer = await self._ask(self._name, "SRV")
        if answer is None:
            return Found((), 0)
        records = [record for record in answer if record.target.labels != (b"",)]  # ".": there is no such service
        found = await gather_few(lambda record: self._target(record.target, record.port), records, AT_ONCE)
        return Found([place for one in found for place in one.places], min((_ttl(answer), *(one.ttl for one in found))))

    async def _target(self, name: Any, port: int) -> Found:
        """Find a target's addresses; one whose name is gone has none, which says nothing of the others."""
        try:
            return await self._addresses(name, port)
        except NoSuchNameError:
            return Found((), self._options.max_secs)

    async def _addresses(self, name: Any, port: int) -> Found:
        family = self._options.family
        kinds = {"auto": ("A", "AAAA"), "both": ("A", "AAAA"), "ipv4": ("A",), "ipv6": ("AAAA",)}[family]
        places: list[tuple[str, int]] = []
        ttls: list[float] = []
        for kind in kinds:
            if places and family == "auto":  # an instance with addresses of both kinds is one
                break
            answer = await self._ask(name, kind)
            if answer is not None:
                places += [(record.address, port) for record in answer]
                ttls.append(_ttl(answer))
        return Found(places, min(ttls, default=self._options.max_secs))

    async def _ask(self, name: Any, kind: str) -> Any:
        """Return the answer, None for a name without records of this kind. Raises LookupFailedError."""
        module = self._dns
        ask = partial(self._resolver.resolve, name, kind, search=True, lifetime=self._options.timeout_secs)
        try:
            return await in_thread(ask)
        except module.NoAnswer:
            return None
        except module.NXDOMAIN:
            raise NoSuchNameError(f"there is no {name}") from None
        except module.LifetimeTimeout:
            raise LookupFailedError(f"no name server answers for {name}") from None
        except module.NoNameservers:
            raise LookupFailedError(f"the name servers fail for {name}") from None
        except (module.dns.exception.DNSException, OSError) as error:
            raise LookupFailedError(f"{name}: {' '.join(str(error).split())}") from None

    def _make_resolver(self) -> Any:
        given = self._options.nameservers
        try:
            resolver = self._dns.Resolver(configure=not given)
        except self._dns.NoResolverConfiguration:
            raise ConfigError(
                f"discovery.dns.{self._name}: /etc/resolv.conf names no server: give nameservers"
            ) from None
        resolver.cache = None
        if given:
            servers = [_server(self._name, text) for text in given]
            make = self._dns.dns.nameserver.Do53Nameserver
            resolver.nameservers = [make(address, port) for address, port in servers]
        return resolver

    def __repr__(self) -> str:
        return f"<DnsLookup {self._name}>"


def _ttl(answer: Any) -> float:
    """Return the shortest time that any record on the way to the answer holds, an alias' too."""
    return float(answer.chaining_result.minimum_ttl)


def _order(place: tuple[str, int]) -> tuple[int, int, int]:
    address = ipaddress.ip_address(place[0])
    return address.version, int(address), place[1]


def _server(name: str, text: str) -> tuple[str, int]:
    """Read ``10.0.0.10``, ``10.0.0.10:53``, ``fd00::a`` or ``[fd00::a]:53``. Raises ConfigError."""
    host, port = text, str(DNS_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = str(ipaddress.ip_address(host))
        number = int(port)
    except ValueError:
        number = 0
        address = ""
    if not 1 <= number <= 65535:
        raise ConfigError(f"discovery.dns.{name}.nameservers: {text[:80]!r} is no address, with a port or without")
    return address, number
