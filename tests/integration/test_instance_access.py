"""Instances behind TLS and keys of their own, over real processes: requests, probes and all else get in."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fd_router.admission.keys import entry, hash_key, make_key
from tests.support.certificates import Certificates
from tests.support.fleet import chat, eventually
from tests.support.mock_process import RouterProcess
from tests.support.ports import free_port

CHAT = "/v1/chat/completions"
ADMIN = "admin-token-0123456789"


class Engine:
    """An engine that lets nobody in without its key, not even to /health. It may want TLS."""

    def __init__(self, key: str, certificate: tuple[Path, Path] | None = None) -> None:
        self.key = key
        self.refused: list[str] = []
        self.served: list[dict[str, str]] = []  # the header fields of chat requests
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                engine.answer(self, b"")

            def do_POST(self) -> None:
                engine.answer(self, self.rfile.read(int(self.headers["content-length"])))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.port = free_port()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        if certificate is not None:
            import ssl  # noqa: PLC0415

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, certificate))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        is_in = handler.headers.get_all("authorization") == [f"Bearer {self.key}"]
        if not is_in:
            self.refused.append(handler.path)
        elif handler.path == CHAT:
            self.served.append({name.lower(): value for name, value in handler.headers.items()})
        answer = json.dumps({"path": handler.path, "length": len(body)}).encode()
        handler.send_response(200 if is_in else 401)
        handler.send_header("content-length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@contextlib.contextmanager
def engines(certificate: tuple[Path, Path]) -> Iterator[tuple[Engine, Engine]]:
    plain, encrypted = Engine("key-of-the-plain-one"), Engine("key-of-the-encrypted-one", certificate)
    try:
        yield plain, encrypted
    finally:
        plain.close()
        encrypted.close()


def ask(port: int, authorization: str = "", **more: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/json"} | ({"authorization": authorization} if authorization else {})
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    try:
        connection.request("POST", CHAT, json.dumps(chat()), headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def test_one_fleet_with_and_without_tls_each_with_its_key(tmp_path: Path, certificates: Certificates) -> None:
    secrets = {"plain": "key-of-the-plain-one", "encrypted": "key-of-the-encrypted-one"}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
    with engines(certificates.issue("127.0.0.1")) as (plain, encrypted):
        instances = {
            "api_key_path": str(tmp_path / "plain"),
            "connections": {
                f"127.0.0.1:{encrypted.port}": {
                    "ca-path": str(certificates.authority_path),
                    "api-key-path": str(tmp_path / "encrypted"),
                }
            },
        }
        state = tmp_path / "state.json"
        sections = {
            "instances": instances,
            "manager": {"health-check-interval-secs": 0.2, "state-path": str(state)},
            "scheduler": {"policy": "round_robin"},
        }
        entries = [
            {"role": "mixed", "host_ip": "127.0.0.1", "port": plain.port},
            {"role": "mixed", "host_ip": "https://127.0.0.1", "port": encrypted.port},
        ]
        router = RouterProcess(sections, instances=entries)
        try:
            router.wait_until_up()
            eventually(lambda: router.call("GET", "/registered_number")[1]["mixed"] == 2)
            assert {ask(router.port, "Bearer the-clients-own") for _ in range(4)} == {200}
            listed = router.call("GET", "/instances")[1]
            assert [entry["url"] for entry in listed["instances"]] == [
                f"http://127.0.0.1:{plain.port}", f"https://127.0.0.1:{encrypted.port}",
            ]  # fmt: skip
            pages = [
                json.dumps(listed), json.dumps(router.call("POST", "/v1/explain", chat())[1]),
                json.dumps(router.call("GET", "/registered")[1]), router.call("GET", "/decode_instances")[1],
            ]  # fmt: skip
            written = router.output + router.log + "".join(map(str, pages))
        finally:
            router.end()
        assert (plain.refused, encrypted.refused) == ([], [])
        assert len(plain.served) == len(encrypted.served) == 2
        told = written + (state.read_text() if state.exists() else "")
        assert not [name for name, text in secrets.items() if text in told], "a key is nobody's to read"


def test_a_key_is_rotated_by_a_reload(tmp_path: Path, certificates: Certificates) -> None:
    file = tmp_path / "key"
    file.write_text("key-of-the-plain-one")
    with engines(certificates.issue("127.0.0.1")) as (plain, _):
        sections = {
            "instances": {"api_key_path": str(file)},
            "manager": {"health-check-interval-secs": 0.2},
        }
        entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": plain.port}]
        router = RouterProcess(sections, instances=entries)
        try:
            router.wait_until_up()
            eventually(lambda: router.call("GET", "/registered_number")[1]["mixed"] == 1)
            file.write_text("not a key")
            status, body = router.call("POST", "/admin/reload")
            assert (status, "instances.api-key-path" in json.dumps(body)) == (400, True)
            assert ask(router.port) == 200
            plain.key = "another-key-altogether"
            file.write_text("another-key-altogether")
            assert router.call("POST", "/admin/reload")[0] == 200
            eventually(lambda: ask(router.port) == 200)  # a probe may have met the new key with the old one
        finally:
            router.end()


def test_the_routers_keys_and_the_instances_are_kept_apart(tmp_path: Path, certificates: Certificates) -> None:
    """Clients show the router's, engines see their own only, whichever header a client uses; a wrong one ends here."""
    clients, mine = make_key(), "key-of-the-plain-one"
    (tmp_path / "engine").write_text(mine)
    (tmp_path / "keys.yaml").write_text("keys:\n" + entry("team", hash_key(clients)))
    with engines(certificates.issue("127.0.0.1")) as (plain, _):
        sections = {
            "instances": {"api_key_path": str(tmp_path / "engine")},
            "access": {"keys-path": str(tmp_path / "keys.yaml"), "admin-token": ADMIN},
            "manager": {"health-check-interval-secs": 0.2},
        }
        entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": plain.port}]
        router = RouterProcess(sections, instances=entries)
        try:
            router.wait_until_up()
            assert eventually(lambda: ask(router.port, f"Bearer {clients}") == 200)
            served = len(plain.served)
            assert ask(router.port, x_api_key=clients) == 200
            for wrong in ("", f"Bearer {mine}", "Bearer sk-wrong"):  # the engine's key is none of the router's
                assert ask(router.port, wrong) == 401
            assert ask(router.port, f"Bearer {clients}", x_api_key="sk-other") == 200
            assert len(plain.served) == served + 2
            written = router.output + router.log
        finally:
            router.end()
        assert plain.refused == []
        for seen in plain.served:
            assert seen["authorization"] == f"Bearer {mine}"
            assert "x-api-key" not in seen
            assert clients not in str(seen)
        assert not [secret for secret in (clients, mine, ADMIN) if secret in written]
