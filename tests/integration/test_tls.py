"""Encrypted connections from clients and to instances, over real processes."""

from __future__ import annotations

import http.client
import json
import socket
import ssl

import pytest

from tests.support.certificates import Certificates
from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.mock_process import RouterProcess
from tests.support.ports import free_port

CHAT = "/v1/chat/completions"


def ask(port: int, context: ssl.SSLContext, method: str = "GET", path: str = "/health", value=None):  # type: ignore[no-untyped-def]
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    try:
        connection.request(method, path, None if value is None else json.dumps(value))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def is_up(router: RouterProcess, context: ssl.SSLContext) -> bool:
    try:
        return ask(router.port, context)[0] == 200
    except ConnectionRefusedError:
        return False


def serial(port: int, context: ssl.SSLContext) -> object:
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as secure:
        return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")


@pytest.mark.slow
def test_clients_and_instances_with_tls(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A router with TLS stands before the mock as the instance of another router, which uses TLS on both sides."""
    certificates, client = Certificates(tmp_path), Certificates(tmp_path, "other").client()
    cert, key = certificates.issue("127.0.0.1")
    trusted, port = certificates.client(), free_port()
    served = {"cert-path": str(cert), "key-path": str(key)}
    with Fleet(1, mock={**QUICK, "decode_ms_per_token": 2}) as fleet:
        entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": fleet.mocks[0].port}]
        inner = RouterProcess({"tls": served}, instances=entries)
        config = {
            "manager": {"health-check-interval-secs": 0.2},
            "log": {"output": "file"},
            "tls": {**served, "upstream": True, "upstream-ca-path": str(certificates.authority_path)},
        }
        entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": inner.port}]
        outer = RouterProcess(config, port=port, instances=entries)
        try:
            eventually(lambda: is_up(inner, trusted))
            eventually(lambda: is_up(outer, trusted))
            eventually(lambda: b'"state":"healthy"' in ask(port, trusted, "GET", "/health_generate")[1])
            status, body = ask(port, trusted, "POST", CHAT, chat(max_tokens=3))
            assert (status, json.loads(body)["usage"]["completion_tokens"]) == (200, 3)
            assert ask(port, trusted, "POST", CHAT, chat(max_tokens=200, stream=True))[1].endswith(b"data: [DONE]\n\n")
            assert ask(port, trusted, "POST", CHAT, chat(text="x" * 3_000_000, max_tokens=1))[0] == 200

            with pytest.raises(ssl.SSLCertVerificationError):
                ask(port, client)
            with socket.create_connection(("127.0.0.1", port), 10) as plain:  # a client without TLS is told so
                plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"use https://" in plain.recv(1000)
                assert plain.recv(1000) == b""

            context = certificates.client()
            context.check_hostname = False
            before = serial(port, context)
            certificates.issue("127.0.0.1")
            assert serial(port, context) == before
            assert ask(port, trusted, "POST", "/admin/reload")[0] == 200
            after = serial(port, context)
            assert after != before
            key.write_text("broken")
            status, body = ask(port, trusted, "POST", "/admin/reload")
            assert (status, json.loads(body)["status"]) == (400, "unchanged")
            assert serial(port, context) == after

            assert outer.stop() == 0
            assert inner.stop() == 0
            assert "Traceback" not in outer.output + inner.output + outer.log
        finally:
            outer.end()
            inner.end()


@pytest.mark.slow
def test_an_instance_that_is_not_who_it_should_be_is_not_used(tmp_path) -> None:  # type: ignore[no-untyped-def]
    certificates, strangers = Certificates(tmp_path), Certificates(tmp_path, "strangers")
    cert, key = strangers.issue("127.0.0.1")
    inner = RouterProcess({"tls": {"cert-path": str(cert), "key-path": str(key)}})
    config = {"tls": {"upstream": True, "upstream-ca-path": str(certificates.authority_path)}}
    outer = RouterProcess(config, instances=[{"role": "mixed", "host_ip": "127.0.0.1", "port": inner.port}])
    try:
        eventually(lambda: is_up(inner, strangers.client()))
        outer.wait_until_up()
        (entry,) = outer.call("GET", "/health_generate")[1]["instances"]
        assert entry["healthy"] is False
        assert "certificate verify failed" in entry["detail"]
        assert outer.call("POST", CHAT, chat())[0] == 502
    finally:
        outer.end()
        inner.end()


def test_a_certificate_that_cannot_be_used_is_one_clear_line(tmp_path) -> None:  # type: ignore[no-untyped-def]
    router = RouterProcess({"tls": {"cert-path": str(tmp_path / "none.pem")}})
    try:
        assert router.process.wait(25) == 1
        assert f"tls.cert-path: {tmp_path / 'none.pem'}: no such file or directory" in router.output
        assert "Traceback" not in router.output
    finally:
        router.end()
