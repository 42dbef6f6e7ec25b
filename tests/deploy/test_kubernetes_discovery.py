"""The example of a router that finds its instances in Kubernetes: its parts fit each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fd_router.cli import run
from fd_router.config.discovery import KubernetesPods
from fd_router.engines.dialects import Dialects
from fd_router.instances.registration import require_served
from fd_router.instances.sources.kubernetes.objects import Pod
from fd_router.instances.sources.kubernetes.pods import PodReader
from fd_router.instances.sources.template import Template
from tests.support.schemas import check_kubernetes

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes-discovery"


def objects(file: str) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all((EXAMPLE / file).read_text())}


def options() -> dict[str, Any]:
    config = yaml.safe_load(objects("router.yaml")["ConfigMap"]["data"]["config.yaml"])
    found: dict[str, Any] = config["discovery"]["kubernetes"]["engines"]
    return found


@pytest.mark.parametrize("file", ["rbac.yaml", "router.yaml", "engines.yaml"])
def test_kubernetes_takes_it(file: str) -> None:
    for each in objects(file).values():
        check_kubernetes(each)


def test_its_configuration_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(objects("router.yaml")["ConfigMap"]["data"]["config.yaml"])
    assert run(["check-config", "--config_path", str(path)]) == 0, capsys.readouterr()


def test_the_router_may_do_what_it_does_and_no_more() -> None:
    rights, router = objects("rbac.yaml"), objects("router.yaml")["Deployment"]
    assert rights["Role"]["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    assert rights["RoleBinding"]["roleRef"]["name"] == rights["Role"]["metadata"]["name"]
    account = router["spec"]["template"]["spec"]["serviceAccountName"]
    assert account == rights["ServiceAccount"]["metadata"]["name"] == rights["RoleBinding"]["subjects"][0]["name"]


def test_the_engines_are_found_and_understood() -> None:
    template = objects("engines.yaml")["Deployment"]["spec"]["template"]
    name, _, text = options()["label-selector"].partition("=")
    assert template["metadata"]["labels"][name] == text
    told = {
        "metadata": {"name": "x", **template["metadata"]},
        "spec": template["spec"],
        "status": {"podIP": "10.0.0.1"},
    }
    given = KubernetesPods(**{key.replace("-", "_"): value for key, value in options().items()})
    accept = partial(require_served, dialects=Dialects(), splitwise=False)
    reader = PodReader("x", given, Template("x", given.registration, accept))
    ((registration, _),) = reader.read(msgspec.convert(told, Pod))
    accept(registration)
    assert (registration.port, registration.dialect, registration.max_requests) == (8000, "vllm", 64)
    assert registration.labels["pool"] == "general"
