"""Where instances may be, by ``access.register-networks``."""

from __future__ import annotations

from typing import Protocol

from fd_router.config.host_names import is_name


class Hosts(Protocol):
    """Networks."""

    def __contains__(self, host: str) -> bool:
        """Tell whether the address ``host`` is in one of them."""


def why_outside(networks: Hosts | None, host: str) -> str:
    """Say why an instance may not be at ``host``, "" where it may. ``networks``: those of instances; None: any.

    Where a name leads to is looked at with each connection.
    """
    is_outside = networks is not None and not is_name(host) and host not in networks
    return f"{host} is in none of access.register-networks" if is_outside else ""
