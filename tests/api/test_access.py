"""Who may call what: every endpoint of a whole router has a rule, and the rules hold."""

from __future__ import annotations

import pytest

from fd_router.admission.networks import Networks
from fd_router.admission.sessions import Sessions
from fd_router.admission.tokens import Token
from fd_router.api.access import GROUPS, Group, Guard, Rules, group_of
from fd_router.app.router import Router
from fd_router.config.loading import AccessConfig, Config, ServerConfig
from fd_router.errors import AccessError, BadRequestError
from fd_router.http.messages import Request, RequestHead, Response, Routes
from fd_router.openai.kinds.engine_admin import FAN_OUT
from tests.support.fake_log import FakeLog
from tests.support.rig import make_telemetry

ADMIN, REGISTER = "admin-token-0123456789", "register-token-0123456789"
EXPECTED = {
    ("/health", "GET"): Group.OPEN,
    ("/live", "GET"): Group.OPEN,
    ("/ready", "GET"): Group.OPEN,
    ("/v1/models", "GET"): Group.OPEN,
    ("/v1/models/{model+}", "GET"): Group.OPEN,
    ("/metrics", "GET"): Group.METRICS,
    ("/register", "POST"): Group.REGISTER,
    ("/decode_instances", "GET"): Group.REGISTER,
    ("/version", "GET"): Group.OPEN,
    ("/dashboard", "GET"): Group.PAGE,
    ("/dashboard/events", "GET"): Group.PAGE,
    ("/dashboard/login", "POST"): Group.PAGE,
    ("/dashboard/logout", "POST"): Group.PAGE,
    ("/dashboard/instances/{key}", "DELETE"): Group.BUTTONS,
    ("/dashboard/instances/{key}/drain", "POST"): Group.BUTTONS,
    ("/dashboard/instances/{key}/undrain", "POST"): Group.BUTTONS,
    **{(path, method): Group.ENGINES for path, methods in FAN_OUT.items() for method in methods},
}
"""All others are for administrators."""


def request(path: str, method: str = "GET", token: str = "", client: str = "10.0.0.1") -> Request:
    shown = f"Bearer {token}".encode() if token else b""
    return Request(RequestHead(method, path, authorization=shown), b"{}", client=client)


async def routes_of_a_whole_router() -> Routes:
    telemetry, _ = make_telemetry()
    access = AccessConfig(admin_token=ADMIN, register_token=REGISTER, register_networks="10.0.0.0/8")
    config = Config(server=ServerConfig(port=1, host="127.0.0.1"), access=access)
    return Router(config, telemetry.log).context.routes


async def test_every_route_has_the_rule_that_is_expected() -> None:
    routes = await routes_of_a_whole_router()
    assert {path for path, _ in EXPECTED} <= routes.keys()
    for route, methods in routes.items():
        for method in methods:
            assert group_of(route) is EXPECTED.get((route, method), Group.ADMIN), route


async def test_every_handler_of_a_whole_router_is_guarded() -> None:
    for route, methods in (await routes_of_a_whole_router()).items():
        for method, handler in methods.items():
            group = group_of(route)
            if route == "/v1/models/{model+}":  # open, and there is no such model
                with pytest.raises(BadRequestError, match="does not exist"):
                    await handler(request(route, method))
                continue
            if group is Group.PAGE and method == "POST":  # who logs in has no token to show yet
                continue
            if group in {Group.OPEN, Group.METRICS, Group.PAGE}:
                status = 503 if route == "/ready" else 200  # it has no instances
                assert (await handler(request(route, method))).status == status
                continue
            with pytest.raises(AccessError) as caught:
                await handler(request(route, method))
            assert caught.value.status == 401
            assert caught.value.headers == (("www-authenticate", "Bearer"),)
            if group is Group.REGISTER:
                with pytest.raises(AccessError) as caught:
                    await handler(request(route, method, REGISTER, client="192.0.2.1"))
                assert caught.value.status == 403


def test_a_route_that_no_rule_covers_can_not_be_served() -> None:
    async def handler(_: Request) -> Response:
        return Response(200)

    with pytest.raises(ValueError, match="nothing says who may call /new/thing"):
        Guard(Rules(), FakeLog()).protect({"/new/thing": {"GET": handler}})
    with pytest.raises(ValueError):
        group_of("/health/more")  # what is open is open by its whole name
    with pytest.raises(ValueError):
        group_of("/dashboard/more")
    assert group_of("/instances/{key}/drain") is Group.ADMIN
    assert set(GROUPS.values()) == set(Group)


ALL = Rules(Token(ADMIN), Token(REGISTER), Networks.parse("10.0.0.0/8", "x"), protect_metrics=True)


@pytest.mark.parametrize(
    ("rules", "group", "shown", "client", "status"),
    [
        (Rules(), Group.ADMIN, "", "192.0.2.1", 200),
        (Rules(), Group.REGISTER, "", "192.0.2.1", 200),
        (ALL, Group.OPEN, "", "192.0.2.1", 200),
        (ALL, Group.ADMIN, "", "10.0.0.1", 401),
        (ALL, Group.ADMIN, REGISTER, "10.0.0.1", 401),
        (ALL, Group.ADMIN, ADMIN, "192.0.2.1", 200),
        (ALL, Group.METRICS, "", "10.0.0.1", 401),
        (ALL, Group.METRICS, ADMIN, "10.0.0.1", 200),
        (ALL, Group.REGISTER, "", "10.0.0.1", 401),
        (ALL, Group.REGISTER, REGISTER, "10.0.0.1", 200),
        (ALL, Group.REGISTER, ADMIN, "10.0.0.1", 200),
        (ALL, Group.REGISTER, REGISTER, "192.0.2.1", 403),
        (Rules(admin=Token(ADMIN)), Group.METRICS, "", "10.0.0.1", 200),
        (Rules(admin=Token(ADMIN)), Group.REGISTER, "", "10.0.0.1", 200),
        (Rules(register=Token(REGISTER)), Group.ADMIN, "", "10.0.0.1", 200),
    ],
)
def test_rules(rules: Rules, group: Group, shown: str, client: str, status: int) -> None:
    guard, asked = Guard(rules, FakeLog()), request("/x", token=shown, client=client)
    if status == 200:
        guard.check(group, asked)
        return
    with pytest.raises(AccessError) as caught:
        guard.check(group, asked)
    assert caught.value.status == status
    assert ADMIN not in caught.value.message
    assert REGISTER not in caught.value.message


def test_what_changes_something_from_a_browser_needs_a_token_that_is_set() -> None:
    for group in (Group.ENGINES, Group.BUTTONS):
        with pytest.raises(AccessError, match="needs access.admin-token to be set"):
            Guard(Rules(), FakeLog()).check(group, request("/x", "POST", ADMIN))
        Guard(ALL, FakeLog()).check(group, request("/x", "POST", ADMIN))


def with_cookie(path: str, cookie: str) -> Request:
    return Request(RequestHead("GET", path, headers=[(b"Cookie", cookie.encode())]))


def test_a_session_is_as_good_as_the_token_below_dashboard_only() -> None:
    sessions = Sessions(lambda: 0.0)
    guard = Guard(ALL, FakeLog(), sessions)
    cookie = f"other=1; fd_router_session={sessions.begin()}"
    assert guard.allows(Group.ADMIN, with_cookie("/dashboard/explain", cookie))
    assert guard.allows(Group.BUTTONS, with_cookie("/dashboard/instances/x", cookie))
    assert guard.allows(Group.METRICS, with_cookie("/dashboard/events", cookie))
    assert not guard.allows(Group.ADMIN, with_cookie("/instances", cookie))
    assert not guard.allows(Group.ADMIN, with_cookie("/dashboardx/explain", cookie))
    assert not guard.allows(Group.REGISTER, with_cookie("/dashboard/explain", cookie))
    assert not guard.allows(Group.ADMIN, with_cookie("/dashboard/explain", "fd_router_session=other"))


def test_another_token_ends_all_sessions_and_the_same_one_none() -> None:
    sessions = Sessions(lambda: 0.0)
    guard, secret = Guard(ALL, FakeLog(), sessions), sessions.begin()
    guard.use(Token(ADMIN), None)
    assert sessions.has(secret)
    guard.use(Token("another-token-0123456789"), None)
    assert not sessions.has(secret)


async def test_what_another_sites_page_sends_changes_nothing_anywhere() -> None:
    foreign = [(b"Origin", b"https://evil.example")]
    for route, methods in (await routes_of_a_whole_router()).items():
        for method, handler in methods.items():
            if method == "GET":
                continue
            head = RequestHead(
                method, route, headers=foreign, host=b"router:30000", authorization=f"Bearer {ADMIN}".encode()
            )
            with pytest.raises(AccessError, match="another site"):
                await handler(Request(head, b"{}", client="10.0.0.1"))


def test_a_refusal_is_logged_without_what_was_shown() -> None:
    log = FakeLog()
    guard = Guard(ALL, log)
    with pytest.raises(AccessError, match="access.admin-token"):
        guard.check(Group.ADMIN, request("/registered", token="some-other-secret"))
    (line,) = [text for level, text in log.lines if level == "warn"]
    assert line == (
        "Refused GET /registered from 10.0.0.1: a wrong token in 'Authorization: Bearer TOKEN' (see access.admin-token)"
    )
