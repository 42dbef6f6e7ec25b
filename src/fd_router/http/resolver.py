"""The resolver: addresses of instances that are known by name, looked up again and again, kept while that fails."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fd_router.config.host_names import is_name

FRESH_SECS: Final = 5.0
"""How long what was found is used without another look: as often as instances are probed by default."""

AT_ONCE: Final = 4
"""Look-ups under way: each takes a thread, for many seconds where no name server answers."""

MAX_NAMES: Final = 10_000
"""Names that are remembered."""


class ForbiddenAddressError(OSError):
    """A name stands for an address that instances may not have."""


class Resolver:
    """Finds the addresses of names. ``is_allowed``: whether an instance may have an address."""

    def __init__(self, clock: Callable[[], float], is_allowed: Callable[[str], bool] | None = None) -> None:
        self._clock = clock
        self._is_allowed = is_allowed
        self._known: OrderedDict[str, tuple[tuple[str, ...], float]] = OrderedDict()  # with the time of the look-up
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of ``host``, in the system's order; an address stands for itself.

        Raises OSError for a name that never had one, ForbiddenAddressError unless each of them is allowed.
        """
        if not is_name(host):
            return (host,)
        known, since = self._known.get(host, ((), 0.0))
        if known and self._clock() - since < FRESH_SECS:
            return known
        try:
            found = await self._look_up(host)
        except OSError as error:
            if not known:
                raise OSError(f"{host}: {error.strerror or error}") from None
            return known
        if self._is_allowed is not None:
            for address in found:
                if not self._is_allowed(address):
                    raise ForbiddenAddressError(f"{host} is at {address}, which is in none of access.register-networks")
        self._known[host] = found, self._clock()
        self._known.move_to_end(host)
        if len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)
        return found

    async def _look_up(self, host: str) -> tuple[str, ...]:
        async with self._slots:
            infos = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return tuple(dict.fromkeys(str(ipaddress.ip_address(info[4][0])) for info in infos))

    def __repr__(self) -> str:
        return f"<Resolver {len(self._known)} names known>"
