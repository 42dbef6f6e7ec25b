"""What labels and annotations say of a Pod's instances."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest

from fd_router.config.discovery import KubernetesEntry
from fd_router.errors import ConfigError
from fd_router.instances.instance import Readiness
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.sources.kubernetes.objects import Pod
from fd_router.instances.sources.kubernetes.pods import Found, PodReader
from fd_router.instances.sources.template import Template
from tests.support.discoveries import accept
from tests.support.kubernetes_server import pod


def read(described: dict[str, Any], **options: Any) -> list[Found]:
    given = KubernetesEntry(label_selector="app=engine", **options)
    reader = PodReader("x", given, Template("x", given.registration, accept, is_whole=False))
    return list(reader.read(msgspec.convert(described, Pod)))


def annotated(**told: str) -> dict[str, Any]:
    return pod("a", annotations={f"fd-router/{key.replace('_', '-')}": text for key, text in told.items()})


def test_annotations_tell_any_key_of_a_registration() -> None:
    described = annotated(
        role="decode", dialect="vllm", model="m", max_requests="7", metrics_port="9000", dp_size="2",
        kv_transfer='{"kv_connector": "NixlConnector"}', labels='{"rack": "b"}', scheme="https",
    )  # fmt: skip
    (found,) = read(described)
    registration = found.registration
    assert (registration.url, registration.role, found.readiness) == (
        "https://10.0.0.1:8000",
        "decode",
        Readiness.READY,
    )
    assert (registration.dialect, registration.models, registration.max_requests) == ("vllm", ("m",), 7)
    assert (registration.metrics_port, registration.dp_size) == (9000, 2)
    assert registration.kv_transfer == {"kv_connector": "NixlConnector"}
    assert registration.labels == {"pod": "a", "namespace": "llm", "node": "node-1", "rack": "b"}


def test_what_is_nearer_to_the_pod_wins() -> None:
    described = pod(
        "a",
        labels={"llm-d.ai/role": "prefill", "fd-router/dialect": "vllm", "team": "x"},
        annotations={"model-name": "from-annotation", "fd-router/dialect": "sglang"},
    )
    (found,) = read(
        described,
        registration={"role": "mixed", "model": "for-all", "version": "1"},
        from_labels={"role": "llm-d.ai/role", "model": "model-name", "max-requests": "not-there"},
    )
    registration = found.registration
    assert (registration.role, registration.models, registration.dialect, registration.version) == (
        "prefill", ("from-annotation",), "sglang", "1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("port", "told", "ports"),
    [
        (None, None, [8000]),
        (9000, None, [9000]),
        ("http", None, [8000]),
        (9000, "http", [8000]),
        (None, "8001, 8002, 8001", [8001, 8002]),
    ],
)
def test_its_ports(port: int | str | None, told: str | None, ports: list[int]) -> None:
    found = read(pod("a") if told is None else annotated(port=told), port=port)
    assert [each.registration.port for each in found] == ports


def test_of_several_ports_that_called_http_is_meant() -> None:
    described = pod("a")
    described["spec"]["containers"].append({"name": "sidecar", "ports": [{"containerPort": 9, "name": "metrics"}]})
    assert read(described)[0].registration.port == 8000
    described["spec"]["containers"][0]["ports"][0]["name"] = "api"
    with pytest.raises(RegistrationError, match="which port: it has 2, and neither the options nor"):
        read(described)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"port": "grpc"}, "it has no port 'grpc': it has http"),
        ({"port": "70000"}, "it has no port '70000': it has http"),
        ({"port": ""}, "it has no port '': it has http"),
        ({"host_ip": "169.254.169.254"}, "fd-router/host-ip: a Pod can't tell that"),
        ({"is_paused": "true"}, "fd-router/is-paused: a Pod can't tell that"),
        ({"rolle": "mixed"}, "fd-router/rolle: a Pod can't tell that; did you mean 'role'?"),
        ({"labels": "{"}, "fd-router/labels: not JSON: Input data was truncated"),
        ({"labels": "[]"}, "labels: expected an object, got a list"),
        ({"role": "cook"}, "invalid role: cook"),
    ],
)
def test_what_it_can_not_say(told: dict[str, str], why: str) -> None:
    with pytest.raises(RegistrationError) as error:
        read(annotated(**told))
    assert error.value.reason == why


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_one_that_is_over_has_none(phase: str) -> None:
    described = pod("a")
    described["status"]["phase"] = phase
    assert read(described) == []


def test_what_is_hardly_told() -> None:
    """As the API server tells of a Pod that nobody has scheduled, and of nothing where there is nothing."""
    assert read({"metadata": {"name": "a", "labels": None, "annotations": None}}) == []
    bare = {"metadata": {"name": "a" * 200}, "status": {"podIP": "fd00::1", "conditions": None}}
    (found,) = read(bare, port=1)
    assert (found.registration.key, found.readiness, found.registration.labels) == (
        "[fd00::1]:1", Readiness.UNREADY, {"pod": "a" * 100},
    )  # fmt: skip


def test_the_garbage_collector_need_not_look_at_pods() -> None:
    """Thousands of them come at once, and what is found in them stays."""
    listed = msgspec.json.decode(msgspec.json.encode([pod("a"), annotated(role="decode")]), type=tuple[Pod, ...])
    given = KubernetesEntry(label_selector="app=engine")
    reader = PodReader("x", given, Template("x", given.registration, accept, is_whole=False))
    found = [{one.registration.key: one for one in reader.read(each)} for each in listed]
    gc.collect()
    rows = [row for each in listed for row in (each.spec.containers, each.spec.containers[0].ports)]
    conditions = [each.status.conditions for each in listed]
    assert not any(map(gc.is_tracked, (*listed, *rows, *conditions, *found)))


@pytest.mark.parametrize("key", ["host-ip", "port", "rol"])
def test_options_for_what_it_can_not_say(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.from-labels\.{key}: a Pod can't tell that"):
        read(pod("a"), from_labels={key: "app"})
