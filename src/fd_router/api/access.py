"""Who may call which of the router's own endpoints: one table, applied to every route."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

import msgspec

from fd_router.admission.networks import Networks
from fd_router.admission.tokens import Token
from fd_router.errors import AccessError
from fd_router.http.messages import Handler, Request, Response, Routes
from fd_router.openai.kinds.engine_admin import FAN_OUT
from fd_router.telemetry.contracts import Log


class Group(Enum):
    """Endpoints with the same rule."""

    OPEN = "open"  # anybody
    REGISTER = "register"  # instances, by the register token, from their networks; the admin token will do too
    ADMIN = "admin"  # what changes the fleet or reveals it: the admin token
    METRICS = "metrics"  # the admin token, where access.protect-metrics says so
    ENGINES = "engines"  # what changes engines: the admin token, and nobody where none is set


GROUPS: Final[Mapping[str, Group]] = MappingProxyType(
    {
        "/health": Group.OPEN,
        "/version": Group.OPEN,
        "/live": Group.OPEN,
        "/ready": Group.OPEN,
        "/v1/models": Group.OPEN,  # who needs an API key needs it there too, and sees what it may ask for
        "/v1/models/{model+}": Group.OPEN,
        "/register": Group.REGISTER,
        "/decode_instances": Group.REGISTER,  # prefill instances ask for it as often as they register
        "/metrics": Group.METRICS,
        "/health_generate": Group.ADMIN,
        "/registered": Group.ADMIN,
        "/registered_number": Group.ADMIN,
        "/v1/abort_requests": Group.ADMIN,
        "/v1/explain": Group.ADMIN,
        "/instances": Group.ADMIN,  # and all below it
        "/admin": Group.ADMIN,  # and all below it
        **dict.fromkeys(FAN_OUT, Group.ENGINES),
    }
)


_TOKENS: Final = {group: "register" if group is Group.REGISTER else "admin" for group in Group}
"""By which token's option each is protected."""


class Rules(msgspec.Struct, frozen=True):
    """What is asked of those who call. None: nothing. A token that isn't set protects nothing."""

    admin: Token | None = None
    register: Token | None = None
    networks: Networks | None = None
    protect_metrics: bool = False

    def tokens(self, group: Group) -> tuple[Token, ...]:
        """Return the tokens of which a caller of ``group`` must show one; none: no token is needed."""
        if group is Group.REGISTER and self.register is not None:
            return (self.register,) if self.admin is None else (self.register, self.admin)
        needs_admin = group in (Group.ADMIN, Group.ENGINES) or (group is Group.METRICS and self.protect_metrics)
        return (self.admin,) if needs_admin and self.admin is not None else ()


def open_to_all(routes: Routes) -> Routes:
    """Return those of ``routes`` that anybody may call."""
    return {route: methods for route, methods in routes.items() if group_of(route) is Group.OPEN}


def group_of(route: str) -> Group:
    """Return the group of ``route``, a path or a pattern of paths. Raises ValueError when the table has none."""
    first = "/".join(route.split("/")[:2])
    group = GROUPS.get(route) or GROUPS.get(first)
    if group is None or (group is Group.OPEN and route not in GROUPS):
        raise ValueError(f"nothing says who may call {route}: put it into fd_router.api.access.GROUPS")
    return group


def is_own(path: str) -> bool:
    """Tell whether ``path`` is one that the router answers itself, or lies below one whose rule covers all below it."""
    return path in GROUPS or GROUPS.get("/".join(path.split("/")[:2])) is Group.ADMIN


class Guard:
    """Checks who calls. Its refusals are logged, without what was shown."""

    def __init__(self, rules: Rules, log: Log) -> None:
        self._rules = rules
        self._log = log

    def use(self, admin: Token | None, register: Token | None) -> None:
        """Ask for these tokens from now on."""
        self._rules = msgspec.structs.replace(self._rules, admin=admin, register=register)

    def asks(self, group: Group) -> bool:
        """Tell whether callers of ``group`` must show a token."""
        return bool(self._rules.tokens(group))

    def protect(self, routes: Routes) -> dict[str, dict[str, Handler]]:
        """Return ``routes`` with handlers that check first. Raises ValueError for a route that no rule covers."""
        return {
            route: {method: self._protected(handler, group_of(route)) for method, handler in methods.items()}
            for route, methods in routes.items()
        }

    def check(self, group: Group, request: Request) -> None:
        """Raise AccessError unless ``request`` may call endpoints of ``group``."""
        rules, head = self._rules, request.head
        if group is Group.REGISTER and rules.networks is not None and request.client not in rules.networks:
            raise self._refusal(request, 403, "this address is in none of access.register-networks")
        if group is Group.ENGINES and rules.admin is None:
            raise self._refusal(request, 403, "it changes engines, and needs access.admin-token to be set")
        tokens = rules.tokens(group)
        if tokens and not any(token.is_in(head.authorization) for token in tokens):
            what = "a wrong token" if head.authorization else "no token"
            raise self._refusal(
                request, 401, f"{what} in 'Authorization: Bearer TOKEN' (see access.{_TOKENS[group]}-token)"
            )

    def _protected(self, handler: Handler, group: Group) -> Handler:
        if group is Group.OPEN:
            return handler

        async def checked(request: Request) -> Response:
            self.check(group, request)
            return await handler(request)

        return checked

    def _refusal(self, request: Request, status: int, why: str) -> AccessError:
        head = request.head
        self._log.warn(f"Refused {head.method} {head.path} from {request.client}: {why}")
        code = "invalid_token" if status == 401 else "forbidden"
        return AccessError(f"{head.method} {head.path} is refused: {why}", status=status, code=code)
