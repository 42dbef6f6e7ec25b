"""The ways into a cluster, and what is told of one that doesn't answer."""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fd_router.config.discovery import KubernetesEntry
from fd_router.errors import ConfigError
from fd_router.instances.sources.kubernetes import api as api_module
from fd_router.instances.sources.kubernetes.api import MISSING, PODS, ApiFailedError, ClusterApi, NotTrustedError
from fd_router.instances.sources.kubernetes.objects import Pod
from tests.support.certificates import Certificates
from tests.support.kubernetes_server import KubernetesServer, pod
from tests.support.ports import free_port

Make = Callable[..., ClusterApi[Pod]]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def server(certificates: Certificates) -> Iterator[KubernetesServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificates.issue("127.0.0.1"))
    with KubernetesServer(context) as server:
        server.put(pod("a"))
        yield server


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[ClusterApi[Pod]] = []

    def make(**options: Any) -> ClusterApi[Pod]:
        made.append(ClusterApi("discovery.kubernetes.x", KubernetesEntry(label_selector="app=engine", **options), PODS))
        return made[-1]

    yield make
    for each in made:
        await each.close()


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


async def names(api: ClusterApi[Pod]) -> list[str]:
    pods, _ = await api.list()
    return [each.metadata.full_name for each in pods]


async def test_by_a_kubeconfig(
    server: KubernetesServer, certificates: Certificates, tmp_path: Path, make: Make
) -> None:
    path = write(tmp_path / "kubeconfig", server.kubeconfig(str(certificates.authority_path)))
    api = make(kubeconfig=path, context="test")
    assert await names(api) == ["llm/a"]
    assert repr(api) == "<ClusterApi Pods app=engine in llm>"


async def test_by_the_kubeconfig_of_kubectl(
    server: KubernetesServer, certificates: Certificates, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "kubeconfig", server.kubeconfig(str(certificates.authority_path)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
    assert await names(make()) == ["llm/a"]


async def test_as_a_pod_with_a_token_that_changes(
    server: KubernetesServer, certificates: Certificates, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "account"
    prepare_account(account, server, certificates)
    monkeypatch.setattr(api_module, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    api = make()
    assert await names(api) == ["llm/a"]
    server.token = write(account / "token", "another") and "another"
    with pytest.raises(NotTrustedError, match="401"):
        await api.list()
    await api.close()  # as the source does then
    assert await names(api) == ["llm/a"]


def prepare_account(folder: Path, server: KubernetesServer, certificates: Certificates) -> None:
    folder.mkdir()
    write(folder / "token", server.token)
    write(folder / "namespace", "llm\n")
    write(folder / "ca.crt", certificates.authority_path.read_text())


async def test_a_certificate_of_somebody_else_is_not_believed(
    server: KubernetesServer, tmp_path: Path, make: Make
) -> None:
    other = Certificates(tmp_path, "other")
    api = make(kubeconfig=write(tmp_path / "kubeconfig", server.kubeconfig(str(other.authority_path))))
    with pytest.raises(NotTrustedError, match="can't be reached: .*certificate verify failed"):
        await api.list()
    assert server.requests == []


async def test_another_namespace_may_be_forbidden(
    server: KubernetesServer, certificates: Certificates, tmp_path: Path, make: Make
) -> None:
    path = write(tmp_path / "kubeconfig", server.kubeconfig(str(certificates.authority_path)))
    with pytest.raises(ApiFailedError, match=r"the API server refuses \(403\): pods is forbidden: User router"):
        await make(kubeconfig=path, namespace="other").list()


async def test_nobody_there(tmp_path: Path, make: Make) -> None:
    text = KubernetesServer.kubeconfig(Nobody())  # type: ignore[arg-type]
    with pytest.raises(ApiFailedError, match="the API server can't be reached: Cannot connect to host 127.0.0.1"):
        await make(kubeconfig=write(tmp_path / "kubeconfig", text)).list()


class Nobody:
    token, _tls, port = "x", None, free_port()


async def test_no_way_in(tmp_path: Path, make: Make) -> None:
    path = write(tmp_path / "kubeconfig", "{}")
    with pytest.raises(ApiFailedError, match="no way into a cluster: "):
        await make(kubeconfig=path).list()


def test_a_kubeconfig_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"^discovery.kubernetes.x.kubeconfig: /none: no such file$"):
        ClusterApi("discovery.kubernetes.x", KubernetesEntry(label_selector="a=b", kubeconfig="/none"), PODS)


def test_without_the_library_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes_asyncio.client", None)
    with pytest.raises(ConfigError) as error:
        ClusterApi("x", KubernetesEntry(label_selector="a=b"), PODS)
    assert str(error.value) == MISSING
