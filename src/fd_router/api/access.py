"""Who may call which of the router's own endpoints: one table, applied to every route."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

import msgspec

from fd_router.admission.networks import Networks
from fd_router.admission.sessions import Sessions
from fd_router.admission.tokens import Token
from fd_router.api.cross_site import SAFE_METHODS, is_cross_site
from fd_router.errors import AccessError
from fd_router.http.messages import Handler, Request, Response, Routes
from fd_router.openai.kinds.engine_admin import FAN_OUT
from fd_router.telemetry.contracts import Log


class Group(Enum):
    """Endpoints with the same rule."""

    __hash__ = object.__hash__  # an Enum's own looks for its name

    OPEN = "open"  # anybody
    REGISTER = "register"  # instances, by the register token, from their networks; the admin token will do too
    ADMIN = "admin"  # what changes the fleet or reveals it: the admin token
    METRICS = "metrics"  # the admin token, where access.protect-metrics says so
    ENGINES = "engines"  # what changes engines: the admin token, and nobody where none is set
    PAGE = "page"  # the dashboard itself, which holds nothing: anybody who reaches the control port, where there is one
    BUTTONS = "buttons"  # what its buttons do: the admin token or a session, and nobody where no token is set


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
        "/dashboard": Group.PAGE,
        "/dashboard/login": Group.PAGE,
        "/dashboard/logout": Group.PAGE,
        "/dashboard/events": Group.PAGE,  # it looks itself at how much its caller may see
        "/dashboard/explain": Group.ADMIN,
        "/dashboard/instances/{key}": Group.BUTTONS,
        "/dashboard/instances/{key}/drain": Group.BUTTONS,
        "/dashboard/instances/{key}/undrain": Group.BUTTONS,
        **dict.fromkeys(FAN_OUT, Group.ENGINES),
    }
)

COVERS_ALL_BELOW: Final = (Group.ADMIN,)
"""Groups whose rule holds for all below a path that has it."""

NEEDS_TOKEN: Final[Mapping[Group, str]] = MappingProxyType(
    {Group.ENGINES: "it changes engines", Group.BUTTONS: "it changes the fleet from a browser"}
)
"""What nobody may do where no admin token is set, and why not."""

SESSION_COOKIE: Final = "fd_router_session"
SESSION_PATH: Final = "/dashboard"
"""Below which the cookie is sent and believed: never along with what goes on to instances."""


_TOKENS: Final = {group: "register" if group is Group.REGISTER else "admin" for group in Group}
"""By which token's option each is protected."""


_BY_ADMIN: Final = frozenset({Group.ADMIN, *NEEDS_TOKEN})


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
        needs_admin = group in _BY_ADMIN or (group is Group.METRICS and self.protect_metrics)
        return (self.admin,) if needs_admin and self.admin is not None else ()


def open_to_all(routes: Routes) -> Routes:
    """Return those of ``routes`` that anybody may call."""
    return {route: methods for route, methods in routes.items() if group_of(route) is Group.OPEN}


def group_of(route: str) -> Group:
    """Return the group of ``route``, a path or a pattern of paths. Raises ValueError when the table has none."""
    first = "/".join(route.split("/")[:2])
    group = GROUPS.get(route) or GROUPS.get(first)
    if group is None or (route not in GROUPS and group not in COVERS_ALL_BELOW):
        raise ValueError(f"nothing says who may call {route}: put it into fd_router.api.access.GROUPS")
    return group


def is_own(path: str) -> bool:
    """Tell whether ``path`` is one that the router answers itself, or lies below one whose rule covers all below it."""
    first = GROUPS.get("/".join(path.split("/")[:2]))
    return path in GROUPS or first in COVERS_ALL_BELOW or first is Group.PAGE


class Guard:
    """Checks who calls. Its refusals are logged, without what was shown."""

    def __init__(self, rules: Rules, log: Log, sessions: Sessions | None = None) -> None:
        """``sessions``: of browsers that have shown the admin token; None: they show it with each request."""
        self._rules = rules
        self._log = log
        self._sessions = sessions

    def use(self, admin: Token | None, register: Token | None) -> None:
        """Ask for these tokens from now on."""
        before = self._rules.admin
        if self._sessions is not None and before is not None and not before.is_same(admin):
            self._sessions.end_all()
        self._rules = msgspec.structs.replace(self._rules, admin=admin, register=register)

    def asks(self, group: Group) -> bool:
        """Tell whether callers of ``group`` must show a token."""
        return bool(self._rules.tokens(group))

    @property
    def has_admin_token(self) -> bool:
        """Whether there is an admin token."""
        return self._rules.admin is not None

    def protect(self, routes: Routes) -> dict[str, dict[str, Handler]]:
        """Return ``routes`` with handlers that check first. Raises ValueError for a route that no rule covers."""
        return {
            route: {method: self._protected(handler, group_of(route), method) for method, handler in methods.items()}
            for route, methods in routes.items()
        }

    def allows(self, group: Group, request: Request) -> bool:
        """Tell whether ``request`` may call endpoints of ``group``, as ``check`` does, but without a word."""
        return not self._objection(group, request)[0]

    def check(self, group: Group, request: Request) -> None:
        """Raise AccessError unless ``request`` may call endpoints of ``group``."""
        status, why = self._objection(group, request)
        if status:
            raise self.refusal(request, status, why)

    def _objection(self, group: Group, request: Request) -> tuple[int, str]:
        """Return the status of a refusal and why; (0, "") for none."""
        rules, head = self._rules, request.head
        if group is Group.REGISTER and rules.networks is not None and request.client not in rules.networks:
            return 403, "this address is in none of access.register-networks"
        if group in NEEDS_TOKEN and rules.admin is None:
            return 403, f"{NEEDS_TOKEN[group]}, and needs access.admin-token to be set"
        tokens = rules.tokens(group)
        if tokens and not any(token.is_in(head.authorization) for token in tokens):
            if group is not Group.REGISTER and self._has_session(request):
                return 0, ""
            what = "a wrong token" if head.authorization else "no token"
            return 401, f"{what} in 'Authorization: Bearer TOKEN' (see access.{_TOKENS[group]}-token)"
        return 0, ""

    def _has_session(self, request: Request) -> bool:
        if self._sessions is None or not request.head.path.startswith(f"{SESSION_PATH}/"):
            return False
        return self._sessions.has(session_of(request))

    def _protected(self, handler: Handler, group: Group, method: str) -> Handler:
        is_safe = method in SAFE_METHODS
        if group in _FOR_ALL and is_safe:
            return handler

        async def checked(request: Request) -> Response:
            if not is_safe and is_cross_site(request):
                raise self.refusal(request, 403, "a page of another site made a browser send it")
            if group not in _FOR_ALL:
                self.check(group, request)
            return await handler(request)

        return checked

    def refusal(self, request: Request, status: int, why: str) -> AccessError:
        """Log that ``request`` is refused, and return the error to raise."""
        head = request.head
        self._log.warn(f"Refused {head.method} {head.path} from {request.client}: {why}")
        code = "invalid_token" if status == 401 else "forbidden"
        return AccessError(f"{head.method} {head.path} is refused: {why}", status=status, code=code)


_FOR_ALL: Final = frozenset({Group.OPEN, Group.PAGE})


def session_of(request: Request) -> str:
    """Return the secret in a request's session cookie, "" if there is none."""
    for name, value in request.head.headers:
        if name.lower() == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, secret = pair.strip().partition("=")
                if key == SESSION_COOKIE:
                    return secret
    return ""
