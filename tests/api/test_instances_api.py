from __future__ import annotations

import pytest

from fd_router.api.instances import InstancesApi
from fd_router.errors import HttpError
from fd_router.instances.source import REGISTER_YAML

KEY = "10.0.0.1:8000"


class FakeDeadlines:
    def __init__(self) -> None:
        self.set: dict[str, float] = {}

    def drain_by(self, instance, seconds: float) -> None:
        self.set[instance.key] = seconds

    def seconds_left(self, key: str) -> float | None:
        return self.set.get(key)


@pytest.fixture
def deadlines() -> FakeDeadlines:
    return FakeDeadlines()


@pytest.fixture
def told() -> list[tuple[str, float]]:
    """What other routers are told of deadlines."""
    return []


@pytest.fixture
def api(registry, deadlines, log, told):
    routes = InstancesApi(registry, deadlines, log=log, on_deadline=lambda *what: told.append(what)).routes()

    async def call(ask, method: str, path: str, **more):
        template = {2: "/instances", 3: "/instances/{key}"}.get(len(path.split("/")))
        template = template or f"/instances/{{key}}/{path.rpartition('/')[2]}"
        return await ask({path: routes[template]}, method, path, **more)

    return call


async def test_the_list_shows_state_and_counts(api, ask, registry, describe) -> None:
    registry.register(describe(8000)).acquire(7)
    registry.register(describe(8001), REGISTER_YAML, index=0)
    assert await api(ask, "GET", "/instances") == (
        200,
        {
            "instances": [
                {
                    "key": KEY, "url": f"http://{KEY}", "role": "mixed", "state": "healthy", "draining": False,
                    "paused": False, "readiness": "ready", "models": [], "source": "register",
                    "kept": False, "running": 1, "tokens": 7, "running_elsewhere": 0,
                },
                {
                    "key": "10.0.0.1:8001", "url": "http://10.0.0.1:8001", "role": "mixed", "state": "unhealthy",
                    "draining": False, "paused": False, "readiness": "ready", "models": [], "source": "register.yaml",
                    "kept": True, "running": 0, "tokens": 0, "running_elsewhere": 0,
                },
            ]
        },
    )  # fmt: skip


async def test_a_drained_one_gets_nothing_new_until_it_is_undrained(api, ask, registry, describe) -> None:
    registry.register(describe(8000))
    status, entry = await api(ask, "POST", f"/instances/{KEY}/drain")
    assert (status, entry["draining"], entry["state"]) == (200, True, "healthy")
    assert registry.group("mixed").available == ()
    registry.register(describe(8000))  # a heartbeat
    assert registry.group("mixed").available == ()
    assert (await api(ask, "GET", f"/instances/{KEY}"))[1]["draining"] is True
    assert (await api(ask, "POST", f"/instances/{KEY}/undrain"))[1]["draining"] is False
    assert [x.key for x in registry.group("mixed").available] == [KEY]


async def test_a_deadline_for_what_runs_there(api, ask, registry, describe, deadlines, told) -> None:
    registry.register(describe(8000))
    status, entry = await api(ask, "POST", f"/instances/{KEY}/drain", query="deadline_secs=30")
    assert (status, entry["draining"], entry["deadline_secs"]) == (200, True, 30.0)
    assert deadlines.set == {KEY: 30.0}
    assert told == [(KEY, 30.0)]
    assert (await api(ask, "GET", f"/instances/{KEY}"))[1]["deadline_secs"] == 30.0
    assert "deadline_secs" not in (await api(ask, "POST", f"/instances/{KEY}/undrain"))[1]


@pytest.mark.parametrize("seconds", ["x", "-1", "", "nan", "86401"])
async def test_a_deadline_that_is_no_time(api, ask, registry, describe, deadlines, seconds: str) -> None:
    registry.register(describe(8000))
    with pytest.raises(HttpError, match="deadline_secs: .* is not a number from 0 to 86400"):
        await api(ask, "POST", f"/instances/{KEY}/drain", query=f"deadline_secs={seconds}")
    assert not registry.get(KEY).is_draining
    assert deadlines.set == {}


@pytest.mark.parametrize("written", ["[2001:db8::1]:8000", "%5B2001:db8::1%5D:8000", "%5b2001%3Adb8%3A%3A1%5d%3A8000"])
async def test_a_v6_key_percent_encoded_or_not(api, ask, registry, describe, written: str) -> None:
    registry.register(describe(8000, host_ip="2001:db8::1"))
    assert (await api(ask, "GET", f"/instances/{written}"))[1]["key"] == "[2001:db8::1]:8000"
    assert (await api(ask, "DELETE", f"/instances/{written}"))[0] == 200
    assert registry.all() == ()


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("2001:db8::1", "[2001:DB8:0:0::1]:8000"),
        ("2001:db8::1", "2001:db8::1:8000"),
        ("10.0.0.1", "[::ffff:10.0.0.1]:8000"),
        ("10.0.0.1", "http%3A%2F%2F10.0.0.1:8000"),
        ("engine.example", "Engine.Example.:8000"),
    ],
)
async def test_a_key_in_another_spelling(api, ask, registry, describe, host: str, written: str) -> None:
    """A ban of a key that no registration has would be said to hold, and hold nobody."""
    registry.register(describe(8000, host_ip=host))
    assert (await api(ask, "DELETE", f"/instances/{written}", query="ban_secs=60"))[0] == 200
    assert registry.all() == ()
    assert registry.banned_secs(describe(8000, host_ip=host).key) == 60


@pytest.mark.parametrize(
    "written", ["engine", "10.0.0.1", "10.0.0.1:", "10.0.0.1:x", "10.0.0.1:99999", ":8000", "%20:1"]
)
async def test_what_is_no_key_is_not_banned(api, ask, registry, written: str) -> None:
    with pytest.raises(HttpError, match="There is no instance") as raised:
        await api(ask, "DELETE", f"/instances/{written}", query="ban_secs=60")
    assert raised.value.status == 404
    assert registry.bans() == {}


async def test_a_removed_one_is_listed_as_long_as_requests_run_there(api, ask, registry, describe) -> None:
    instance = registry.register(describe(8000))
    instance.acquire(5)
    assert await api(ask, "DELETE", f"/instances/{KEY}") == (200, {"removed": KEY, "running": 1})
    _, listed = await api(ask, "GET", "/instances")
    assert [(x["state"], x["running"]) for x in listed["instances"]] == [("removed", 1)]
    assert (await api(ask, "GET", f"/instances/{KEY}"))[1]["state"] == "removed"
    instance.release_tokens(5)
    instance.release()
    assert await api(ask, "GET", "/instances") == (200, {"instances": []})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/instances/10.0.0.9:1"),
        ("DELETE", "/instances/10.0.0.9:1"),
        ("POST", "/instances/10.0.0.9:1/drain"),
        ("POST", "/instances/10.0.0.9:1/undrain"),
    ],
)
async def test_one_that_is_unknown(api, ask, method: str, path: str) -> None:
    with pytest.raises(HttpError, match=r"There is no instance 10\.0\.0\.9:1; .* list the keys") as raised:
        await api(ask, method, path)
    assert raised.value.status == 404


async def test_a_ban_keeps_it_away_for_its_time(api, ask, registry, describe, clock) -> None:
    registry.register(describe(8000))
    assert (await api(ask, "DELETE", f"/instances/{KEY}", query="ban_secs=60"))[0] == 200
    clock.now += 59
    assert registry.banned_secs(KEY) == 1
    assert (await api(ask, "DELETE", f"/instances/{KEY}", query="ban_secs=10"))[1]["running"] == 0  # again, and longer
    clock.now += 10
    assert registry.banned_secs(KEY) == 0


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "1e9"])
async def test_a_ban_that_is_no_time(api, ask, registry, describe, text: str) -> None:
    registry.register(describe(8000))
    with pytest.raises(HttpError, match=rf"ban_secs: '{text}' is not a number from 0 to"):
        await api(ask, "DELETE", f"/instances/{KEY}", query=f"ban_secs={text}")
    assert registry.get(KEY) is not None


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/instances", "there are none here"),
        ("GET", f"/instances/{KEY}", "there are none here"),
        ("DELETE", f"/instances/{KEY}", "it may be ban_secs"),
        ("POST", f"/instances/{KEY}/drain", "it may be deadline_secs"),
        ("POST", f"/instances/{KEY}/undrain", "there are none here"),
    ],
)
async def test_a_parameter_that_is_not_known_is_refused_and_nothing_changes(
    api, ask, registry, describe, method: str, path: str, known: str
) -> None:
    instance = registry.register(describe(8000))
    with pytest.raises(HttpError, match=f"unknown query parameter 'dead_line'; {known}") as refusal:
        await api(ask, method, path, query="ban_secs&dead_line=1" if method == "DELETE" else "dead_line=1")
    assert (refusal.value.status, refusal.value.code) == (400, "unknown_parameter")
    assert registry.get(KEY) is instance
    assert not instance.is_draining
