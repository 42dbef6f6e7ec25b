"""The dashboard's endpoints: its page, its events, its login, and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from fd_router.admission.sessions import SESSION_SECS, Sessions
from fd_router.api.access import SESSION_COOKIE, SESSION_PATH, Group, Guard, session_of
from fd_router.api.dashboard.feed import Feed, hello_event
from fd_router.api.dashboard.page import Page
from fd_router.errors import UNREADABLE, AccessError, BadRequestError, HttpError
from fd_router.http.messages import EventOutlet, Handler, Request, Response, Routes, json_response

MAX_VIEWERS: Final = 32
"""Browsers that may look at once; as many of them may be without a token, and they can't keep out who has one."""

EVENTS: Final = "text/event-stream"

_NO_STORE: Final = ("cache-control", "no-store")


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    token: str


class DashboardApi:
    """The endpoints. ``pages``: makes the page, when somebody wants it for the first time."""

    def __init__(
        self,
        feed: Feed,
        guard: Guard,
        sessions: Sessions,
        pages: Callable[[], Page],
        about: Callable[[], Mapping[str, Any]],
        is_draining: Callable[[], bool],
        buttons: Routes,
    ) -> None:
        """``buttons``: handlers of other endpoints, by their paths, which are answered below /dashboard as well."""
        self._feed = feed
        self._guard = guard
        self._sessions = sessions
        self._make_page = pages
        self._page: Page | None = None
        self._about = about
        self._is_draining = is_draining
        self._buttons = buttons
        self._open_viewers = 0  # that have shown no token

    def routes(self) -> Routes:
        """Return the handlers."""
        own: dict[str, Mapping[str, Handler]] = {
            "/dashboard": {"GET": self._show},
            "/dashboard/events": {"GET": self._events},
            "/dashboard/login": {"POST": self._log_in},
            "/dashboard/logout": {"POST": self._log_out},
        }
        for path, methods in self._buttons.items():
            own[f"{SESSION_PATH}{path}"] = {method: _below(handler) for method, handler in methods.items()}
        return own

    async def _show(self, _request: Request) -> Response:
        if self._page is None:
            self._page = self._make_page()
        return Response(200, self._page.body, "text/html; charset=utf-8", self._page.headers)

    # events

    def _level(self, request: Request) -> bool | None:
        """Tell how much may be seen: all (True), fleet and traffic as /metrics shows them (False), or nothing."""
        if self._guard.allows(Group.ADMIN, request):
            return True
        return False if self._guard.allows(Group.METRICS, request) else None

    async def _events(self, request: Request) -> Response:
        level = self._level(request)
        if level is None:
            self._guard.check(Group.METRICS, request)
        hello = hello_event(
            {
                "router": self._about(),
                "has_token": self._guard.has_admin_token,
                "sees_all": level is True,
                "may_change": self._guard.allows(Group.BUTTONS, request),
            }
        )
        headers = (_NO_STORE, ("x-accel-buffering", "no"))
        self._check_room(level)
        first = hello + await self._feed.snapshot(sees_all=level is True)
        if self._is_draining():  # a stream without end would hold the router up
            return Response(200, first, EVENTS, headers)
        self._check_room(level)  # others may have come meanwhile

        def subscribe(outlet: EventOutlet) -> Callable[[], None]:
            leave = self._feed.watch(outlet, lambda: self._level(request), first)
            self._open_viewers += not level

            def gone() -> None:
                self._open_viewers -= not level
                leave()

            return gone

        return Response(200, b"", EVENTS, headers, events=subscribe)

    def _check_room(self, level: bool | None) -> None:
        """Raise HttpError (503) for a viewer more than may look at once."""
        if self._feed.viewers - self._open_viewers >= MAX_VIEWERS or (not level and self._open_viewers >= MAX_VIEWERS):
            raise HttpError(f"{MAX_VIEWERS} look at the dashboard already", status=503, code="too_many_viewers")

    # sessions

    async def _log_in(self, request: Request) -> Response:
        if not self._guard.has_admin_token:
            raise BadRequestError("There is no access.admin-token to log in with; set one", code="no_admin_token")
        if not (request.header(b"content-type") or b"").startswith(b"application/json"):
            raise BadRequestError("The token is to come as application/json", status=415)
        try:
            token = msgspec.json.decode(request.body, type=_Login).token
        except UNREADABLE:
            raise BadRequestError('The body is to be {"token": "…"}', code="invalid_json") from None
        shown = f"Bearer {token}".encode("utf-8", "surrogatepass")
        head = msgspec.structs.replace(request.head, authorization=shown)
        try:
            self._guard.check(Group.ADMIN, msgspec.structs.replace(request, head=head))
        except AccessError:
            raise AccessError("This is not the admin token", status=401, code="invalid_token") from None
        return _cookie(self._sessions.begin(), SESSION_SECS, request)

    async def _log_out(self, request: Request) -> Response:
        self._sessions.end(session_of(request))
        return _cookie("", 0, request)


def _cookie(secret: str, seconds: float, request: Request) -> Response:
    """Answer with the session's cookie: no script reads it, no other site's page has it sent, no instance sees it."""
    secure = "; Secure" if b"x-forwarded-proto: https" in request.head.hops.lower() else ""
    value = f"{SESSION_COOKIE}={secret}; Path={SESSION_PATH}; Max-Age={seconds:.0f}; HttpOnly; SameSite=Strict{secure}"
    return json_response(200, {"is_admin": bool(secret)}, (("set-cookie", value), _NO_STORE))


def _below(handler: Handler) -> Handler:
    """Have ``handler`` answer below /dashboard as it answers at the path that it was written for."""

    async def answer(request: Request) -> Response:
        head = request.head
        own = msgspec.structs.replace(head, path=head.path.removeprefix(SESSION_PATH))
        return await handler(msgspec.structs.replace(request, head=own))

    return answer
