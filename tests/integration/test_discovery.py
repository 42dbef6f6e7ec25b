"""A running router follows what names its instances: they come, go, and stay when nothing can be asked."""

from __future__ import annotations

import json
import ssl
import threading
from pathlib import Path
from typing import Any

from tests.support.certificates import Certificates
from tests.support.dns_server import DnsServer
from tests.support.fleet import chat, eventually, sample
from tests.support.kubernetes_server import KubernetesServer, pod
from tests.support.mock_process import MockProcess, RouterProcess, call

SERVICE = "_http._tcp.engines.example"


def start_mock() -> MockProcess:
    return MockProcess(decode_ms_per_token=1, prefill_tokens_per_sec=1e6)


class Follower(RouterProcess):
    """A router that knows its instances by one source alone."""

    def __init__(self, source: str, discovery: dict[str, Any], files: dict[str, str] | None = None) -> None:
        self.source = source
        super().__init__({
            "discovery": discovery,
            "manager": {"health-check-interval-secs": 0.2},
            "log": {"output": "file"},
        }, files=files or {})  # fmt: skip

    def states(self) -> dict[str, str]:
        listed = self.call("GET", "/instances")[1]["instances"]
        assert {each["source"] for each in listed} <= {self.source}
        return {each["key"]: each["state"] for each in listed}

    def readiness(self, mock: MockProcess) -> str | None:
        listed = self.call("GET", "/instances")[1]["instances"]
        return next((each["readiness"] for each in listed if each["key"] == mock.key), None)

    def metric(self, name: str) -> float:
        return sample(call(self.port, "GET", "/metrics")[1].decode(), name, source=self.source)

    def ask(self) -> int:
        return self.call("POST", "/v1/completions", {"prompt": "hello", "max_tokens": 1})[0]


def pod_of(mock: MockProcess, name: str, *, ready: bool = True, **metadata: Any) -> dict[str, Any]:
    return pod(name, "127.0.0.1", ready=ready, port=mock.port, **metadata)


def listing(*mocks: MockProcess) -> str:
    return json.dumps({"instances": [{"role": "mixed", "host_ip": "127.0.0.1", "port": x.port} for x in mocks]})


def test_a_file_is_followed_and_a_wrong_one_changes_nothing() -> None:
    first, second = start_mock(), start_mock()
    router = Follower(
        "file fleet.yaml", {"file": "fleet.yaml", "file-check-secs": 0.05}, files={"fleet.yaml": listing(first)}
    )
    with first, second, router:
        eventually(lambda: router.states() == {first.key: "healthy"})
        assert router.ask() == 200
        (router.directory / "fleet.yaml").write_text('{"instances": [{}]}')
        eventually(lambda: router.metric("fd_router_source_up") == 0)
        assert router.metric("fd_router_source_failures_total") == router.metric("fd_router_source_instances") == 1
        assert router.ask() == 200, "what it named stays"
        (router.directory / "fleet.yaml").write_text(listing(second))
        eventually(lambda: router.states() == {second.key: "healthy"})
        assert [router.ask() for _ in range(3)] == [200] * 3
        assert len(first.completions()) == 2
        assert router.metric("fd_router_source_up") == 1
        eventually(lambda: "Source file fleet.yaml is read again" in router.log)


def test_a_name_is_followed_and_a_silent_name_server_changes_nothing() -> None:
    first, second = start_mock(), start_mock()
    with DnsServer() as dns, first, second:

        def name(*mocks: MockProcess) -> None:
            dns.put(SERVICE, *(f"0 0 {mock.port} host.example." for mock in mocks), kind="SRV", ttl=0)

        dns.put("host.example", "127.0.0.1", ttl=0)
        name(first)
        options = {"nameservers": [f"127.0.0.1:{dns.port}"], "min-secs": 0.1, "max-secs": 0.2}
        with Follower(f"dns {SERVICE}", {"dns": {SERVICE: options}}) as router:
            eventually(lambda: router.states() == {first.key: "healthy"})
            assert router.ask() == 200
            name(first, second)
            eventually(lambda: router.states() == {first.key: "healthy", second.key: "healthy"})
            dns.failure = "SERVFAIL"
            eventually(lambda: router.metric("fd_router_source_up") == 0)
            name(second)
            assert router.ask() == 200
            assert len(router.states()) == 2, "the last addresses stay"
            dns.failure = ""
            eventually(lambda: router.states() == {second.key: "healthy"})
            assert [router.ask() for _ in range(3)] == [200] * 3
            reason = f"no longer in dns {SERVICE}"
            eventually(lambda: f"Forgot mixed instance: {first.url} ({reason})" in router.log)


ENDS = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def test_a_pod_that_terminates_gets_nothing_new_and_its_stream_finishes(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificates.issue("127.0.0.1"))
    first, second = MockProcess(decode_ms_per_token=40, prefill_tokens_per_sec=1e6), start_mock()
    with KubernetesServer(tls) as cluster, first, second:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig(str(certificates.authority_path)))
        cluster.put(pod_of(first, "first"), pod_of(second, "second", ready=False))
        options = {"label-selector": "app=engine", "kubeconfig": str(tmp_path / "kubeconfig")}
        with Follower("kubernetes engines", {"kubernetes": {"engines": options}}) as router:
            eventually(lambda: router.states() == {first.key: "healthy"})
            answers: list[bytes] = []
            body = chat(max_tokens=1_000_000, stream=True)

            def stream() -> None:
                answers.append(call(router.port, "POST", "/v1/chat/completions", body, timeout=100)[1])

            client = threading.Thread(target=stream)
            client.start()
            eventually(lambda: len(first.completions()) == 1)
            cluster.put(pod_of(second, "second"))
            eventually(lambda: router.states() == {first.key: "healthy", second.key: "healthy"})
            cluster.put(pod_of(first, "first", **ENDS))
            eventually(lambda: router.readiness(first) == "terminating")
            assert [router.ask() for _ in range(5)] == [200] * 5
            assert client.is_alive(), "the stream goes on meanwhile"
            assert (len(first.completions()), len(second.completions())) == (1, 5)
            cluster.delete("first")
            eventually(lambda: router.states() == {first.key: "removed", second.key: "healthy"})
            first.call("POST", "/v1/abort_requests", {"abort_all": True})  # which ends it in order
            client.join(100)
            assert answers[0].endswith(b"data: [DONE]\n\n")
            eventually(lambda: router.states() == {second.key: "healthy"})
            terminates = f"Server {first.url} terminates: no new requests, 1 running"
            eventually(lambda: terminates in router.log)


def test_an_api_server_that_is_away_changes_nothing(tmp_path: Path) -> None:
    first, second = start_mock(), start_mock()
    with KubernetesServer() as cluster, first, second:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig())
        cluster.put(pod_of(first, "first"))
        options = {"label-selector": "app=engine", "kubeconfig": str(tmp_path / "kubeconfig")}
        with Follower("kubernetes engines", {"kubernetes": {"engines": options}}) as router:
            eventually(lambda: router.states() == {first.key: "healthy"})
            cluster.refuses = 503
            cluster.end_watches(abruptly=True)
            eventually(lambda: router.metric("fd_router_source_up") == 0)
            cluster.delete("first")
            cluster.put(pod_of(second, "second"))
            assert router.ask() == 200
            cluster.refuses = 0
            eventually(lambda: router.states() == {second.key: "healthy"})
            assert router.ask() == 200
            assert router.metric("fd_router_source_up") == router.metric("fd_router_source_instances") == 1
