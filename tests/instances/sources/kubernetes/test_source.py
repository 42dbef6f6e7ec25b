"""The Pods of an API server over real sockets: they come, end, and stay when nothing can be asked."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fd_router.config.discovery import KubernetesEntry
from fd_router.instances.sources.kubernetes import api as api_module
from fd_router.instances.sources.kubernetes.api import PODS, Change, ClusterApi
from fd_router.instances.sources.kubernetes.objects import Pod
from fd_router.instances.sources.kubernetes.pods import PodReader
from fd_router.instances.sources.kubernetes.source import KubernetesInstances
from fd_router.instances.sources.members import SourceMembers
from fd_router.instances.sources.template import Template
from tests.support.discoveries import accept, followed, members_of
from tests.support.kubernetes_server import KubernetesServer, pod
from tests.support.turns import slice_finely, turns_during
from tests.support.waiting import until

Following = AbstractAsyncContextManager[SourceMembers]
Follow = Callable[..., Following]


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with KubernetesServer() as server:
        yield server


@pytest.fixture
def follow(server: KubernetesServer, registry, log, tmp_path: Path) -> Follow:
    def follow(networks: str = "", **options: Any) -> Following:
        path = tmp_path / "kubeconfig"
        path.write_text(server.kubeconfig())
        given = KubernetesEntry(label_selector="app=engine", kubeconfig=str(path), **options)
        template = Template("x", given.registration, accept, is_whole=False)
        reader = PodReader("x", given, template)
        source = KubernetesInstances(
            "engines", ClusterApi("x", given, PODS), reader, sleep=lambda _: asyncio.sleep(0.01)
        )
        return followed(source, members_of(source, registry, log, networks=networks))

    return follow


@pytest.fixture
def state(registry) -> Callable[[], dict[str, str]]:
    """What is known: key → readiness."""
    return lambda: {instance.key: instance.readiness.value for instance in registry.all()}


async def test_pods_come_and_go(server: KubernetesServer, registry, follow: Follow, state) -> None:
    server.put(pod("a", "10.0.0.1"), pod("other", "10.0.0.9", labels={"app": "other"}))
    async with follow():
        await until(lambda: state() == {"10.0.0.1:8000": "ready"})
        (instance,) = registry.all()
        assert instance.labels == {"pod": "a", "namespace": "llm", "node": "node-1"}
        assert instance.source.name == "kubernetes engines"
        server.put(pod("b", "10.0.0.2"))
        await until(lambda: state() == {"10.0.0.1:8000": "ready", "10.0.0.2:8000": "ready"})
        server.delete("a")
        await until(lambda: state() == {"10.0.0.2:8000": "ready"})
        server.put(pod("b", "10.0.0.2", labels={"app": "retired"}))
        await until(lambda: state() == {})
    assert len(server.lists()) == 1
    asked = server.requests[0]
    assert (asked["path"], asked["labelSelector"]) == ("/api/v1/namespaces/llm/pods", "app=engine")


class OneList:
    """An API server with so many Pods, of which none changes."""

    def __init__(self, number: int) -> None:
        described = [pod(f"p{at}", f"10.0.{at // 250}.{at % 250}", ready=at % 2 == 0) for at in range(number)]
        self._pods = msgspec.convert(described, list[Pod])

    async def list(self) -> tuple[list[Pod], str]:
        return self._pods, "1"

    async def watch(self, version: str) -> AsyncIterator[Change[Pod] | None]:
        yield None
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is open."""


class Listed(list[Pod]):
    """A list of which it can be told whether it is still there."""


class ListsAnew(OneList):
    """The same, that makes a list for who asks."""

    async def list(self) -> tuple[list[Pod], str]:
        listed = Listed(self._pods)
        self.made = weakref.ref(listed)
        return listed, "1"


async def test_the_list_is_not_kept_while_changes_are_awaited(registry, log) -> None:
    api, options = ListsAnew(4), KubernetesEntry(label_selector="x")
    reader = PodReader("x", options, Template("x", {}, accept, is_whole=False))
    source = KubernetesInstances("engines", api, reader)
    async with followed(source, members_of(source, registry, log)):
        await until(lambda: len(registry.all()) == 2)
        assert api.made() is None


class OneWatch(OneList):
    """The same, that tells of them by a watch, all at once."""

    async def list(self) -> tuple[list[Pod], str]:
        return [], "1"

    async def watch(self, version: str) -> AsyncIterator[Change[Pod] | None]:
        yield None
        for each in self._pods:
            yield Change("ADDED", each)
        await asyncio.Event().wait()


async def test_so_are_thousands_that_a_watch_tells_of(registry, log, monkeypatch: pytest.MonkeyPatch) -> None:
    slice_finely(monkeypatch)
    options = KubernetesEntry(label_selector="x")
    reader = PodReader("x", options, Template("x", {}, accept, is_whole=False))
    source = KubernetesInstances("engines", OneWatch(100), reader)
    async with followed(source, members_of(source, registry, log)):
        turns = await turns_during(until(lambda: len(registry.all()) == 50))
    assert turns > 150  # one before each Pod, one behind it


async def test_thousands_of_pods_are_taken_in_while_others_have_a_turn(
    registry, log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fd_router.http.pace.SLICE_SECS", -1.0)  # each slice is over at once
    options = KubernetesEntry(label_selector="x")
    reader = PodReader("x", options, Template("x", {}, accept, is_whole=False))
    source = KubernetesInstances("engines", OneList(100), reader)
    turns = 0
    async with followed(source, members_of(source, registry, log)):
        while len(registry.all()) < 50:
            turns += 1
            await asyncio.sleep(0)
    assert turns > 250  # a hundred each to read and to choose, fifty each to gather and to name


async def test_a_pod_that_is_not_ready_yet_is_none_and_one_that_was_is_kept(
    server: KubernetesServer, registry, follow: Follow, state
) -> None:
    server.put(pod("a", ready=False), pod("b", "", ready=False))
    async with follow():
        await until(lambda: server.watching == 1)
        server.put(pod("c", "10.0.0.3"))
        await until(lambda: state() == {"10.0.0.3:8000": "ready"})
        server.put(pod("a"), pod("c", "10.0.0.3", ready=False))
        await until(lambda: state() == {"10.0.0.1:8000": "ready", "10.0.0.3:8000": "unready"})
        for instance in registry.all():
            registry.probe_succeeded(instance)
        assert [x.key for x in registry.group("mixed").candidates()] == ["10.0.0.1:8000"]
        server.delete("a")
        await until(lambda: state() == {"10.0.0.3:8000": "unready"})
        assert [x.key for x in registry.group("mixed").candidates()] == ["10.0.0.3:8000"], "nobody else is left"
        server.put(pod("c", "10.0.0.3"))
        await until(lambda: state() == {"10.0.0.3:8000": "ready"})


async def test_a_pod_that_terminates_gets_nothing_new_until_it_is_gone(
    server: KubernetesServer, registry, log, follow: Follow, state
) -> None:
    server.put(pod("a"))
    async with follow():
        await until(lambda: state() == {"10.0.0.1:8000": "ready"})
        (instance,) = registry.all()
        registry.probe_succeeded(instance)
        instance.acquire(5)
        server.put(pod("a", deletionTimestamp="2026-01-01T00:00:00Z"))
        await until(lambda: state() == {"10.0.0.1:8000": "terminating"})
        assert registry.group("mixed").candidates() == ()
        registry.register(instance.registration)  # its own heartbeat changes nothing
        assert state() == {"10.0.0.1:8000": "terminating"}
        server.put(pod("late", "10.0.0.4", deletionTimestamp="2026-01-01T00:00:00Z"))
        server.delete("a")
        await until(lambda: state() == {})
        assert registry.removed_in_use() == (instance,)
        instance.release(5)
    assert ("info", "Server http://10.0.0.1:8000 terminates: no new requests, 1 running") in log.lines
    gone = "Forgot mixed instance: http://10.0.0.1:8000 (no longer in kubernetes engines)"
    assert ("info", gone) in log.lines


async def test_a_new_pod_at_the_address_of_one_that_ends_counts(
    server: KubernetesServer, follow: Follow, state
) -> None:
    server.put(pod("old"))
    async with follow():
        await until(lambda: state() == {"10.0.0.1:8000": "ready"})
        server.put(pod("old", deletionTimestamp="2026-01-01T00:00:00Z"))
        await until(lambda: state() == {"10.0.0.1:8000": "terminating"})
        server.put(pod("new"))
        await until(lambda: state() == {"10.0.0.1:8000": "ready"})
        server.delete("old")
        server.put(pod("last", "10.0.0.9"))
        await until(lambda: state() == {"10.0.0.1:8000": "ready", "10.0.0.9:8000": "ready"})


@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_watch_that_ends_goes_on_where_it_was(
    server: KubernetesServer, follow: Follow, state, abruptly: bool
) -> None:
    async with follow() as members:
        await until(lambda: server.watching == 1)
        server.put(pod("a"))
        await until(lambda: len(state()) == 1)
        server.end_watches(abruptly=abruptly)
        server.put(pod("b", "10.0.0.2"))
        server.delete("a")
        await until(lambda: state() == {"10.0.0.2:8000": "ready"})
        assert members.health.is_up
    assert len(server.lists()) == 1, "what was missed came by the next watch"


async def test_bookmarks_tell_how_far_a_watch_is(server: KubernetesServer, follow: Follow, state) -> None:
    server.put(pod("a"))
    async with follow():
        await until(lambda: server.watching == 1 and len(state()) == 1)
        server.bookmark()
        server.end_watches()
        await until(lambda: server.watching == 1 and len(server.requests) == 3)
    assert [each.get("resourceVersion") for each in server.requests] == [None, "101", "151"]
    assert server.requests[1]["allowWatchBookmarks"].lower() == "true"
    assert server.requests[1]["timeoutSeconds"] == str(api_module.WATCH_SECS)


@pytest.mark.parametrize("in_watch", [False, True])
async def test_what_has_expired_is_listed_anew(server: KubernetesServer, follow: Follow, state, in_watch: bool) -> None:
    server.tells_expiry_in_the_watch = in_watch
    server.put(pod("a"), pod("b", "10.0.0.2"))
    async with follow() as members:
        await until(lambda: server.watching == 1)
        server.delete("a")
        await until(lambda: len(state()) == 1)
        server.put(pod("c", "10.0.0.3"))
        await until(lambda: len(state()) == 2)
        server.expire()
        server.end_watches()
        server.put(pod("c", "10.0.0.4"))
        await until(lambda: state() == {"10.0.0.2:8000": "ready", "10.0.0.4:8000": "ready"})
        assert members.health.failures == 0
    assert len(server.lists()) == 2


async def test_a_long_list_comes_in_parts(server: KubernetesServer, follow: Follow, state, monkeypatch) -> None:
    monkeypatch.setattr(api_module, "PART", 10)
    server.put(*(pod(f"p{number}", f"10.0.1.{number}") for number in range(35)))
    async with follow():
        await until(lambda: len(state()) == 35)
    assert [each.get("continue") for each in server.requests[:4]] == [None, "10", "20", "30"]


@pytest.mark.parametrize(
    ("status", "why"),
    [(403, "the API server refuses (403): so it is"), (500, "the API server refuses (500): so it is")],
)
async def test_a_refusal_changes_nothing_and_is_told_once_each_way(
    server: KubernetesServer, log, follow: Follow, state, status: int, why: str
) -> None:
    server.put(pod("a"))
    async with follow() as members:
        await until(lambda: len(state()) == 1 and server.watching == 1)
        server.refuses = status
        server.end_watches()
        await until(lambda: members.health.failures >= 3)
        assert state() == {"10.0.0.1:8000": "ready"}
        server.refuses = 0
        server.put(pod("b", "10.0.0.2"))
        await until(lambda: len(state()) == 2)
        assert members.health.is_up
    assert [line for line in log.lines if "Source" in line[1]] == [
        ("warn", f"Source kubernetes engines can't be read, its instances stay as they are: {why}"),
        ("info", "Source kubernetes engines is read again"),
    ]


async def test_odd_events_end_the_watch_and_nothing_else(server: KubernetesServer, follow: Follow, state) -> None:
    server.put(pod("a"))
    async with follow() as members:
        odd = (b"[", b'{"type": "ADDED", "object": 5}', b'{"type": "ERROR", "object": {"code": 500}}')
        for number, line in enumerate(odd, 1):
            await until(lambda number=number: len(server.requests) == 1 + number)  # type: ignore[misc]
            server.send_line(line)
            await until(lambda number=number: members.health.failures == number)  # type: ignore[misc]
        assert len(state()) == 1
        server.put(pod("b", "10.0.0.2"))
        await until(lambda: len(state()) == 2)


async def test_a_pod_that_can_be_none_is_told_once(server: KubernetesServer, log, follow: Follow, state) -> None:
    server.put(pod("bad", annotations={"fd-router/role": "cook"}), pod("a", "10.0.0.2"))
    async with follow():
        await until(lambda: len(state()) == 1)
        server.put(pod("bad", annotations={"fd-router/role": "cook"}, generation=2))
        server.put(pod("wrong", "10.0.0.3", annotations={"fd-router/role": "decode"}))
        server.put(pod("b", "10.0.0.4"))
        await until(lambda: len(state()) == 2)
        server.put(pod("bad"))
        await until(lambda: len(state()) == 3)
    assert [line for level, line in log.lines if level == "warn"] == [
        "Pod llm/bad, which kubernetes engines names, is left out: invalid role: cook",
        "http://10.0.0.3:8000, which kubernetes engines names, is left out: only MIXED instances are allowed",
    ]


async def test_what_is_in_none_of_the_networks_is_left_out(
    server: KubernetesServer, log, follow: Follow, state
) -> None:
    server.put(pod("a", "192.0.2.1"), pod("b", "10.0.0.2"))
    async with follow(networks="10.0.0.0/8"):
        await until(lambda: state() == {"10.0.0.2:8000": "ready"})
    assert "192.0.2.1 is in none of access.register-networks" in log.lines[0][1]


async def test_all_namespaces(server: KubernetesServer, follow: Follow, state) -> None:
    server.put(pod("a"))
    async with follow(namespace="*", field_selector="spec.nodeName=node-1"):
        await until(lambda: len(state()) == 1)
    assert (server.requests[0]["path"], server.requests[0]["fieldSelector"]) == ("/api/v1/pods", "spec.nodeName=node-1")


async def test_what_an_admin_removed_is_named_again_with_the_next_watch_unless_banned(
    server: KubernetesServer, registry, follow: Follow, state
) -> None:
    server.put(pod("a"), pod("b", "10.0.0.2"))
    async with follow():
        await until(lambda: server.watching == 1 and len(state()) == 2)
        registry.ban("10.0.0.1:8000", 60)
        for key in ("10.0.0.1:8000", "10.0.0.2:8000"):
            registry.remove(key, "removed by an admin")
        server.end_watches()
        await until(lambda: state() == {"10.0.0.2:8000": "ready"})
        await until(lambda: len(server.requests) == 3)
        registry.ban("10.0.0.1:8000", 0)
        server.end_watches()
        await until(lambda: len(state()) == 2)


async def test_a_token_that_was_replaced_is_read_anew(
    server: KubernetesServer, follow: Follow, state, tmp_path: Path
) -> None:
    server.put(pod("a"))
    async with follow() as members:
        await until(lambda: server.watching == 1)
        server.token = "another"
        server.end_watches()
        await until(lambda: members.health.failures >= 2)
        write(tmp_path / "kubeconfig", server.kubeconfig())
        server.put(pod("b", "10.0.0.2"))
        await until(lambda: len(state()) == 2)


def write(path: Path, text: str) -> None:
    path.write_text(text)
