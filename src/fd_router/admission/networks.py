"""Networks as the options name them, and whether an address is in one of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from fd_router.config.admission import AccessConfig
from fd_router.config.host_names import plain_address
from fd_router.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Networks:
    """A set of networks. An IPv4 address that comes mapped into IPv6 (``::ffff:10.0.0.1``) counts as the former."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)

    @classmethod
    def parse(cls, text: str, option: str) -> Networks:
        """Read ``10.0.0.0/8, fd00::/8, 192.0.2.7``. Raises ConfigError that names ``option`` and what is wrong."""
        networks: list[Network] = []
        problems = []
        for word in text.replace(",", " ").split():
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError as error:
                problems.append(f"{option}: {error}")  # it repeats the word, and tells of host bits that are set
        if problems:
            raise ConfigError(*problems)
        return cls(networks)

    def __contains__(self, address: str) -> bool:
        try:
            found = plain_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(found in network for network in self._networks if network.version == found.version)

    def __str__(self) -> str:
        return ", ".join(map(str, self._networks))


def read_proxies(access: AccessConfig) -> Networks:
    """Return the networks of the proxies that may say who their client is. Raises ConfigError."""
    return Networks.parse(access.trusted_proxies, "access.trusted-proxies")


def read_networks(access: AccessConfig) -> Networks | None:
    """Return the networks of the instances, None for all. Raises ConfigError."""
    return Networks.parse(access.register_networks, "access.register-networks") if access.register_networks else None
