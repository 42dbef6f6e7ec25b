"""Endpoints of Services as instances: what a slice says of them, and how they come and go over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fd_router.config.discovery import KubernetesEntry
from fd_router.instances.instance import Readiness
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.sources.kubernetes.api import ENDPOINT_SLICES, ClusterApi
from fd_router.instances.sources.kubernetes.objects import EndpointSlice
from fd_router.instances.sources.kubernetes.pods import Found
from fd_router.instances.sources.kubernetes.slices import SliceReader
from fd_router.instances.sources.kubernetes.source import KubernetesInstances
from fd_router.instances.sources.members import SourceMembers
from fd_router.instances.sources.template import Template
from tests.support.discoveries import accept, followed, members_of
from tests.support.kubernetes_server import KubernetesServer, endpoint, endpoint_slice
from tests.support.waiting import until


def reader(given: KubernetesEntry) -> SliceReader:
    return SliceReader("x", given, Template("x", given.registration, accept, is_whole=False))


def read(described: dict[str, Any], **options: Any) -> list[Found]:
    given = KubernetesEntry(label_selector="app=engine", **options)
    return list(reader(given).read(msgspec.convert(described, EndpointSlice)))


def test_each_endpoint_is_an_instance_of_which_the_services_labels_tell() -> None:
    labels = {"fd-router/dialect": "vllm", "llm-d.ai/role": "decode"}
    described = endpoint_slice("a", endpoint("10.0.0.1", "pod-1"), endpoint("10.0.0.2"), **labels)
    one, two = read(described, from_labels={"role": "llm-d.ai/role"}, registration={"model": "m"})
    assert (one.registration.url, one.registration.role, one.registration.dialect) == (
        "http://10.0.0.1:8000", "decode", "vllm",
    )  # fmt: skip
    assert one.registration.models == ("m",)
    assert one.registration.labels == {"pod": "pod-1", "namespace": "llm", "node": "node-1"}
    assert two.registration.labels == {"namespace": "llm", "node": "node-1"}


@pytest.mark.parametrize(
    ("conditions", "readiness"),
    [
        ({}, Readiness.READY),
        ({"ready": None, "terminating": None}, Readiness.READY),
        ({"ready": True, "serving": True, "terminating": False}, Readiness.READY),
        ({"ready": False, "serving": False}, Readiness.UNREADY),
        ({"ready": False, "serving": True, "terminating": True}, Readiness.TERMINATING),
        ({"ready": True, "terminating": True}, Readiness.TERMINATING),  # publishNotReadyAddresses
    ],
)
def test_what_its_conditions_mean(conditions: dict[str, bool | None], readiness: Readiness) -> None:
    (found,) = read(endpoint_slice("a", endpoint("10.0.0.1", **conditions)))
    assert found.readiness is readiness


def test_ports_and_families() -> None:
    described = endpoint_slice("a", endpoint("fd00::1"), family="IPv6")
    assert [each.registration.key for each in read(described, family="ipv6", port="9000,http")] == [
        "[fd00::1]:9000", "[fd00::1]:8000",
    ]  # fmt: skip
    with pytest.raises(RegistrationError, match="its addresses are IPv6, and family is ipv4"):
        read(described)
    with pytest.raises(RegistrationError, match="it has no port 'grpc': it has http"):
        read(endpoint_slice("a", endpoint("10.0.0.1")), port="grpc")
    bare = {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": None, "ports": None}
    assert read(bare) == read(endpoint_slice("a", {"addresses": []})) == []


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with KubernetesServer(resource="endpointslices") as server:
        yield server


@asynccontextmanager
async def follow(server: KubernetesServer, registry: Any, log: Any, folder: Path) -> AsyncIterator[SourceMembers]:
    path = folder / "kubeconfig"
    path.write_text(server.kubeconfig())
    given = KubernetesEntry(label_selector="kubernetes.io/service-name=engine", kubeconfig=str(path))
    api = ClusterApi("x", given, ENDPOINT_SLICES)
    source = KubernetesInstances("engines", api, reader(given), sleep=lambda _: asyncio.sleep(0.01))
    async with followed(source, members_of(source, registry, log)) as members:
        yield members


@pytest.fixture
def state(registry: Any) -> Callable[[], dict[str, str]]:
    """What is known: host → readiness."""
    return lambda: {instance.host: instance.readiness.value for instance in registry.all()}


async def test_endpoints_come_and_go(server: KubernetesServer, registry, log, tmp_path: Path, state) -> None:
    server.put(endpoint_slice("a", endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False)))
    async with follow(server, registry, log, tmp_path):
        await until(lambda: state() == {"10.0.0.1": "ready"})
        server.put(endpoint_slice("a", endpoint("10.0.0.1", ready=False), endpoint("10.0.0.2")))
        await until(lambda: state() == {"10.0.0.1": "unready", "10.0.0.2": "ready"})
        server.put(endpoint_slice("a", endpoint("10.0.0.2", ready=False, serving=True, terminating=True)))
        await until(lambda: state() == {"10.0.0.2": "terminating"})
        server.put(endpoint_slice("b", endpoint("10.0.0.2"), endpoint("10.0.0.3")))  # for a while it is in both
        await until(lambda: state() == {"10.0.0.2": "ready", "10.0.0.3": "ready"})
        server.delete("a")
        server.put(endpoint_slice("six", endpoint("fd00::1"), family="IPv6"))
        server.put(endpoint_slice("b", endpoint("10.0.0.2")))
        await until(lambda: state() == {"10.0.0.2": "ready"})
        server.delete("b")
        await until(lambda: state() == {})
    assert [line for level, line in log.lines if level == "warn"] == [
        "EndpointSlice llm/six, which kubernetes engines names, is left out: its addresses are IPv6, and family is ipv4"
    ]
    assert server.requests[0]["path"] == "/apis/discovery.k8s.io/v1/namespaces/llm/endpointslices"


async def test_bookmarks_and_what_has_expired(server: KubernetesServer, registry, log, tmp_path: Path, state) -> None:
    server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with follow(server, registry, log, tmp_path) as members:
        await until(lambda: server.watching == 1 and len(state()) == 1)
        server.bookmark()
        server.end_watches()
        await until(lambda: len(server.requests) == 3 and server.watching == 1)
        assert server.requests[2]["resourceVersion"] == "151"
        server.expire()
        server.end_watches()
        server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await until(lambda: state() == {"10.0.0.2": "ready"})
        assert members.health.failures == 0
    assert len(server.lists()) == 2
