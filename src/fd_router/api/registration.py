"""Who is registered: ``/register``, ``/registered``, ``/registered_number``, ``/decode_instances``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from urllib.parse import parse_qs

from fd_router.admission.networks import Networks
from fd_router.config.host_names import is_name
from fd_router.http.messages import Request, Response, Routes, json_entries, json_response
from fd_router.http.resolver import ForbiddenAddressError
from fd_router.instances.prober import Outcome
from fd_router.instances.registration import Registration, require_served
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.registration_keys import ROLES
from fd_router.instances.registration_reader import RegistrationReader
from fd_router.instances.registry import Registry
from fd_router.instances.sources.members import SourceMembers
from fd_router.telemetry.contracts import Log

MAX_BODY = 64 * 1024
"""Bytes of a registration. A real one has a few hundred."""

Check = Callable[[Registration], Awaitable[Outcome]]
"""Probes an instance that wants to register."""

LOOK_UP_SECS = 5.0
"""How long finding the address of a name may take: FastDeploy's instances wait so long for an answer."""

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]
"""Returns the addresses of a host. Raises OSError."""


async def as_it_is(host: str) -> tuple[str, ...]:
    """Take an address for itself."""
    return (host,)


def _alone(registration: Registration, body: bytes, /) -> None:
    """A router that is alone has nobody to tell."""


class RegistrationApi:
    """The endpoints by which instances register and are listed. Two heartbeats of one instance may overlap.

    Only instances in ``networks`` are taken in (None: all): prompts are sent there, and so is the probe before.
    """

    def __init__(
        self,
        registry: Registry,
        members: SourceMembers,
        check: Check,
        *,
        splitwise: bool,
        log: Log,
        networks: Networks | None = None,
        resolve: Resolve = as_it_is,
        on_registered: Callable[[Registration, bytes], None] = _alone,
        reader: RegistrationReader | None = None,
    ) -> None:
        """``resolve``: finds the addresses of names. ``on_registered`` is told before an instance is taken in.

        ``reader``: which reads the same bodies for others, too; None: one of its own.
        """
        self._on_registered = on_registered
        self._resolve = resolve
        self._networks = networks
        self._registry = registry
        self._members = members
        self._check = check
        self._splitwise = splitwise
        self._reader = RegistrationReader() if reader is None else reader
        self._log = log

    def routes(self) -> Routes:
        """Return the handlers."""
        return {
            "/register": {"POST": self._register},
            "/registered": {"GET": self._registered},
            "/registered_number": {"GET": self._registered_number},
            "/decode_instances": {"GET": self._decode_instances},
        }

    async def _register(self, request: Request) -> Response:
        if len(request.body) > MAX_BODY:
            return self._refuse(413, f"a registration may have {MAX_BODY // 1024} KB, not {len(request.body)} bytes")
        try:
            registration = self._reader.read(request.body)
            require_served(registration, self._registry.dialects, splitwise=self._splitwise)
        except RegistrationError as error:
            return self._refuse(400, error.message)
        if refusal := await self._refuse_address(registration.host_ip):
            return refusal
        outcome = await self._check(registration)
        if not outcome.healthy:
            return self._refuse(503, f"{registration.url} service is not healthy", f" ({outcome.detail})")
        if (left := self._registry.banned_secs(registration.key)) > 0:
            return self._refuse(403, f"{registration.url} was removed by an admin, and banned for {left:.0f} s more")
        self._on_registered(registration, request.body)
        self._members.upsert(registration)
        return json_response(200, {"code": 200, "msg": "Register success"})

    async def _refuse_address(self, host: str) -> Response | None:
        """Refuse a name without an address, and an address, a name's too, where no instance may be."""
        try:
            async with asyncio.timeout(LOOK_UP_SECS) if is_name(host) else nullcontext():
                addresses = await self._resolve(host)
        except ForbiddenAddressError as error:
            return self._refuse(403, str(error))
        except OSError as error:  # a TimeoutError is one
            return self._refuse(400, RegistrationError(f"invalid host_ip: {host}").message, f" ({error})")
        if self._networks is not None and any(address not in self._networks for address in addresses):
            return self._refuse(403, f"{host} is in none of access.register-networks")
        return None

    def _refuse(self, status: int, message: str, why: str = "") -> Response:
        self._log.error(f"Failed to register instance: {message}{why}")
        return json_response(status, {"code": status, "msg": message})

    async def _registered(self, _request: Request) -> Response:
        registered = {role: (x.registration for x in self._registry.in_service(role)) for role in ROLES}
        entries = {role: await json_entries(x.as_registered() for x in of_role) for role, of_role in registered.items()}
        return json_response(200, {"code": 200, "msg": "success"} | entries)

    async def _registered_number(self, _request: Request) -> Response:
        return json_response(200, self._registry.counts())

    async def _decode_instances(self, request: Request) -> Response:
        version = parse_qs(request.head.query).get("version", [""])[-1]
        registrations = [x.registration for x in self._registry.available("decode")]
        return json_response(200, await json_entries(x.as_json() for x in registrations if _fits(x, version)))


def _fits(registration: Registration, version: str) -> bool:
    """Tell whether a prefill instance of model ``version`` may connect to it: unless both tell one, and another one."""
    return not version or not registration.version or registration.version == version
