"""Host names, told from addresses: what an instance may be called instead of one; how both are read and written."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?=[a-z0-9_-]*[a-z_])[a-z0-9_](?:[a-z0-9_-]{{0,61}}[a-z0-9_])?\Z")
"""RFC 1123, with the underscores of container networks; what ends in a number is an address, or a wrong one."""


def is_name(host: str) -> bool:
    """Tell whether ``host``, in lower case, is a host name, and no address."""
    return _NAME.match(host) is not None


def authority(host: str, port: int) -> str:
    """Write a host, which has no brackets, and a port as URLs do (RFC 3986): ``10.0.0.1:80``, ``[::]:80``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches ``host``: by its address, or the one name that says so."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """Read an IP address; one of IPv4 that comes mapped into IPv6 (``::ffff:10.0.0.1``) as the former.

    Raises ValueError.
    """
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped
