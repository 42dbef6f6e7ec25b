"""TLS and keys towards instances: contexts, what a request carries, and files that are read anew."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from fd_router.config.connections import read_connections
from fd_router.config.instances import InstancesConfig
from fd_router.config.tls import TlsConfig
from fd_router.errors import ConfigError
from fd_router.http.heads import host_line, request_message
from fd_router.http.instance_access import PLAIN, InstanceAccess, access_problems
from fd_router.http.messages import Request, RequestHead
from fd_router.http.tls import server_context
from tests.http.test_tls import handshake
from tests.support.certificates import Certificates

KEY = "sk-instance-0123456789"


def access(told_https: bool = False, api_key_path: str = "", **tls: object) -> InstanceAccess:
    """The access to all instances, by these options."""
    (rule,) = read_connections(InstancesConfig(api_key_path=api_key_path), TlsConfig(**tls))  # type: ignore[arg-type]
    return InstanceAccess(rule, told_https=told_https)


def context_of(access: InstanceAccess, host: str = "127.0.0.1") -> ssl.SSLContext:
    context = access.tls_options(host)["ssl"]
    assert isinstance(context, ssl.SSLContext)
    return context


def head(**headers: str) -> RequestHead:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    return RequestHead(
        "POST", "/", headers=pairs, forward=lines, start=b"POST / HTTP/1.1\r\n", hops=b"via: 1.1 x\r\n\r\n"
    )


def message(access: InstanceAccess, request: Request) -> bytes:
    sent = access.message(request, host_line(b"10.0.0.1:8000"), request.body)
    return sent if isinstance(sent, bytes) else b"".join(sent)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "instance.key"
    file.write_text(f"{KEY}\n")
    return file


class TestTls:
    def test_none_unless_asked_for_or_told(self) -> None:
        assert access().tls_options("10.0.0.1") == {}
        assert (access().scheme, access(told_https=True).scheme) == ("http", "https")
        assert access(told_https=True).tls_options("10.0.0.1")["server_hostname"] == "10.0.0.1"
        assert access(upstream=True).is_encrypted
        assert access(upstream=True).scheme == "http", "the names that logs and metrics have known stay"

    def test_the_authority_and_the_address_are_checked(self, tmp_path: Path) -> None:
        certificates = Certificates(tmp_path)
        cert, key = certificates.issue("127.0.0.1")
        server = server_context(TlsConfig(cert_path=str(cert), key_path=str(key)))
        assert server is not None
        client = context_of(access(upstream=True, upstream_ca_path=str(certificates.authority_path)))
        assert handshake(server, client, "127.0.0.1").version() == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            handshake(server, client, "127.0.0.2")
        other = Certificates(tmp_path, "other")
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger = context_of(access(told_https=True, upstream_ca_path=str(other.authority_path)))
            handshake(server, stranger, "127.0.0.1")
        careless = context_of(access(upstream=True, upstream_verify=False))
        assert handshake(server, careless, "127.0.0.2").version() == "TLSv1.3"

    def test_one_name_for_all(self) -> None:
        side = access(upstream=True, upstream_verify=False, upstream_name="instances.test")
        assert side.tls_options("10.0.0.1")["server_hostname"] == "instances.test"

    def test_a_new_authority(self, tmp_path: Path) -> None:
        side = access(upstream=True, upstream_ca_path=str(Certificates(tmp_path).authority_path))
        before = context_of(side)
        Certificates(tmp_path)
        replace = side.prepare()
        assert context_of(side) is before
        replace()
        assert context_of(side) is not before


class TestKey:
    def test_it_stands_in_the_place_of_the_clients(self, key_file: Path) -> None:
        keyed = access(api_key_path=str(key_file))
        request = Request(head(Authorization="Bearer client", X_Api_Key="client", Accept="*/*"), b"{}", "id")
        assert message(keyed, request) == (
            b"POST / HTTP/1.1\r\nhost: 10.0.0.1:8000\r\ncontent-length: 2\r\nx-request-id: id\r\n"
            b"authorization: Bearer " + KEY.encode() + b"\r\nAccept: */*\r\nvia: 1.1 x\r\n\r\n{}"
        )
        assert b"Accept: a\r\n" in message(keyed, Request(head(Accept="a"))), "another head, other lines"
        long = message(keyed, Request(head(), b" " * 20_000))
        assert long.endswith(b" " * 20_000)
        assert long.count(KEY.encode()) == 1

    def test_without_one_the_client_s_goes_through_as_ever(self) -> None:
        assert PLAIN.message is request_message
        request = Request(head(Authorization="Bearer client"), b"{}", "id")
        assert b"Authorization: Bearer client\r\n" in message(PLAIN, request)

    def test_a_new_key_is_in_the_next_request(self, key_file: Path) -> None:
        keyed = access(api_key_path=str(key_file))
        request = Request(head(), b"{}", "id")
        assert KEY.encode() in message(keyed, request)
        key_file.write_text("another-key")
        replace = keyed.prepare()
        assert keyed.authorization == f"Bearer {KEY}"
        replace()
        assert keyed.authorization == "Bearer another-key"
        assert b"another-key" in message(keyed, request)

    def test_a_file_that_is_no_key_changes_nothing(self, key_file: Path) -> None:
        keyed = access(api_key_path=str(key_file))
        key_file.write_text("two words")
        with pytest.raises(ConfigError, match="instances.api-key-path: .*one key of printable ASCII"):
            keyed.prepare()
        assert keyed.authorization == f"Bearer {KEY}"

    def test_nothing_shows_it(self, key_file: Path) -> None:
        keyed = access(api_key_path=str(key_file), upstream=True, upstream_verify=False)
        assert repr(keyed) == "<InstanceAccess of all, TLS, with a key>"


def test_problems_name_option_file_and_what_is_wrong(tmp_path: Path) -> None:
    missing, text = str(tmp_path / "missing"), tmp_path / "text.pem"
    text.write_text("hello")
    instances = InstancesConfig(
        api_key_path=missing, connections={"10.0.0.0/24": {"ca-path": str(text), "api-key-path": ""}}
    )
    tls = TlsConfig(upstream_cert_path=missing)
    rule, _ = read_connections(instances, TlsConfig())
    assert rule.settings.api_key_path == ""
    problems = access_problems(read_connections(instances, tls))
    assert any(
        problem.startswith(f"instances.connections: 10.0.0.0/24: ca-path: {text}: no certificates in PEM format")
        for problem in problems
    )
    assert f"tls.upstream-cert-path: {missing}: no such file or directory" in problems
    assert f"instances.api-key-path: {missing}: no such file or directory" in problems
