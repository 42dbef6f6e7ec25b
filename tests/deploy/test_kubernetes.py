"""examples/kubernetes: what Kubernetes takes, and what fits together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from fastjsonschema import JsonSchemaException

from fd_router.cli import run
from fd_router.config.discovery import KubernetesEntry
from fd_router.config.loading import load
from fd_router.config.sections import Config
from fd_router.instances.sources.kubernetes.objects import Pod
from fd_router.instances.sources.kubernetes.pods import PodReader
from fd_router.instances.sources.template import Template
from tests.support.discoveries import accept
from tests.support.schemas import check_kubernetes

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kubernetes"
BASE = ("rbac.yaml", "router.yaml", "state.yaml")


def manifests(*names: str) -> list[dict[str, Any]]:
    return [manifest for name in names for manifest in yaml.safe_load_all((EXAMPLE / name).read_text())]


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        manifest
        for manifest in manifests(*BASE, "autoscaling.yaml", "monitoring.yaml", "mocks.yaml", "engines.yaml")
        if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)
    ]
    return found


def pod(name: str) -> dict[str, Any]:
    template: dict[str, Any] = one("Deployment", name)["spec"]["template"]
    return template


def configuration() -> Config:
    return load(str(EXAMPLE / "config.yaml"), {}, {}).config


@pytest.mark.parametrize("name", [*BASE, "autoscaling.yaml", "mocks.yaml", "engines.yaml"])
def test_kubernetes_takes_it(name: str) -> None:
    for manifest in manifests(name):
        check_kubernetes(manifest)


def test_a_field_that_there_is_not_would_be_noticed() -> None:
    manifest = one("Deployment", "fd-router")
    manifest["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    with pytest.raises(JsonSchemaException, match="readinessprobe"):
        check_kubernetes(manifest)


def test_all_is_applied_that_a_fleet_needs() -> None:
    kustomization = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())
    assert kustomization["resources"] == list(BASE)
    (generated,) = kustomization["configMapGenerator"]
    volumes = {volume["name"]: volume for volume in pod("fd-router")["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    assert [(EXAMPLE / name).exists() for name in generated["files"]] == [True]
    (container,) = pod("fd-router")["spec"]["containers"]
    assert [image["name"] for image in kustomization["images"]] == [container["image"]]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["args"] == ["--config_path", f"{mounts['config']}/{generated['files'][0]}"]


@pytest.mark.parametrize("name", ["fd-router", "fd-router-state"])
def test_whoever_selects_pods_finds_them(name: str) -> None:
    labels = pod(name)["metadata"]["labels"]
    ports = {port["name"] for container in pod(name)["spec"]["containers"] for port in container["ports"]}
    assert one("Deployment", name)["spec"]["selector"]["matchLabels"] == labels
    services = [one("Service", name), *([one("Service", "fd-router-pods")] if name == "fd-router" else [])]
    for service in services:
        assert service["spec"]["selector"] == labels
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_what_stands_beside_the_routers_means_them() -> None:
    labels = {"matchLabels": pod("fd-router")["metadata"]["labels"]}
    spread = pod("fd-router")["spec"]["topologySpreadConstraints"]
    assert [each["labelSelector"] for each in spread] == [labels]
    assert one("PodDisruptionBudget", "fd-router")["spec"]["selector"] == labels
    policy = one("NetworkPolicy", "fd-router-state")["spec"]
    assert policy["podSelector"] == {"matchLabels": pod("fd-router-state")["metadata"]["labels"]}
    assert policy["ingress"][0]["from"] == [{"podSelector": labels}]
    scaled = one("HorizontalPodAutoscaler", "fd-router")["spec"]
    assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fd-router"}
    assert scaled["minReplicas"] == one("Deployment", "fd-router")["spec"]["replicas"] >= 2
    monitor = one("ServiceMonitor", "fd-router")["spec"]
    assert monitor["selector"]["matchLabels"] == one("Service", "fd-router")["metadata"]["labels"]
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == [
        one("Service", "fd-router")["spec"]["ports"][0]["name"]
    ]


def test_the_autoscaler_asks_for_a_metric_that_the_adapter_makes_of_one_of_the_routers() -> None:
    (rule,) = yaml.safe_load((EXAMPLE / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    (metric,) = one("HorizontalPodAutoscaler", "fd-router")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    series = rule["seriesQuery"].partition("{")[0]
    assert f"| `{series}` | gauge |" in (ROOT / "docs" / "observability.md").read_text()


def test_the_configuration_fits_the_pods() -> None:
    config, spec = configuration(), pod("fd-router")["spec"]
    (container,) = spec["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [config.server.port]
    assert config.server.drain_delay_secs + config.server.drain_timeout_secs < spec["terminationGracePeriodSeconds"]
    readiness = container["readinessProbe"]
    looks = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert config.server.drain_delay_secs >= 3 * looks
    assert (readiness["httpGet"]["path"], container["livenessProbe"]["httpGet"]["path"]) == ("/ready", "/live")
    state = one("Service", "fd-router-state")
    assert config.state.url == f"redis://{state['metadata']['name']}:{state['spec']['ports'][0]['port']}"
    assert config.log.output == "stdout"  # the file system can't be written


def test_the_configuration_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "--config_path", str(EXAMPLE / "config.yaml")]) == 0, capsys.readouterr()


@pytest.mark.parametrize("instances", ["mocks", "vllm"])
def test_the_routers_find_instances(instances: str) -> None:
    (entry,) = configuration().discovery.kubernetes.values()
    name, _, value = entry["label-selector"].partition("=")
    template = pod(instances)
    assert template["metadata"]["labels"][name] == value
    assert [port["name"] for port in template["spec"]["containers"][0]["ports"]] == [entry["port"]]


def test_what_the_engines_say_of_themselves_is_understood() -> None:
    (entry,) = configuration().discovery.kubernetes.values()
    template = pod("vllm")
    told = {
        "metadata": {"name": "x", **template["metadata"]},
        "spec": template["spec"],
        "status": {"podIP": "10.0.0.1"},
    }
    given = KubernetesEntry(**{key.replace("-", "_"): value for key, value in entry.items()})
    reader = PodReader("x", given, Template("x", given.registration, accept))
    (found,) = reader.read(msgspec.convert(told, Pod))
    registration = found.registration
    accept(registration)
    assert (registration.port, registration.dialect, registration.max_requests) == (8000, "vllm", 64)
    assert registration.labels["pool"] == "general"


def test_the_routers_may_look_for_them_and_do_no_more() -> None:
    (account,) = one("RoleBinding", "fd-router")["subjects"]
    assert (
        account["name"]
        == pod("fd-router")["spec"]["serviceAccountName"]
        == one("ServiceAccount", "fd-router")["metadata"]["name"]
    )
    assert one("RoleBinding", "fd-router")["roleRef"]["name"] == one("Role", "fd-router")["metadata"]["name"]
    (rule,) = one("Role", "fd-router")["rules"]
    assert rule == {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}


@pytest.mark.parametrize("name", ["fd-router", "fd-router-state", "mocks"])
def test_no_pod_may_do_more_than_it_must(name: str) -> None:
    spec = pod(name)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in spec["containers"]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
