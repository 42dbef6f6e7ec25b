from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fd_router.config.loading import TlsConfig
from fd_router.errors import ConfigError
from fd_router.http.tls import ClientSide, server_context, tls_problems
from tests.support.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pair(certificates: Certificates) -> tuple[str, str]:
    cert, key = certificates.issue("127.0.0.1")
    return str(cert), str(key)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Shake hands in memory; return the client's end. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    while len(done) < 2:
        for end in (one, other):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(end)
    return one


def serial(end: ssl.SSLObject) -> object:
    certificate = end.getpeercert()
    assert certificate is not None
    return certificate["serialNumber"]


def test_nothing_is_encrypted_unless_asked_for() -> None:
    assert server_context(TlsConfig()) is None
    assert tls_problems(TlsConfig()) == ()


def test_tls_1_2_is_the_least(pair: tuple[str, str], certificates: Certificates) -> None:
    server = server_context(TlsConfig(cert_path=pair[0], key_path=pair[1]))
    assert server is not None
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2
    client = certificates.client()
    assert handshake(server, client, "127.0.0.1").version() == "TLSv1.3"
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(server, client, "127.0.0.1").version() == "TLSv1.2"


def test_key_and_certificate_may_be_in_one_file(pair: tuple[str, str], tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(Path(pair[1]).read_bytes() + Path(pair[0]).read_bytes())
    assert server_context(TlsConfig(cert_path=str(both))) is not None


@pytest.mark.parametrize("name", ["127.0.0.1", "router.test"])  # with an address no name is sent (SNI)
def test_new_connections_get_the_new_certificate(tmp_path: Path, name: str) -> None:
    certificates = Certificates(tmp_path)
    cert, key = certificates.issue(name)
    config = TlsConfig(cert_path=str(cert), key_path=str(key))
    side = ClientSide(config)
    assert side.context is not None
    old = serial(handshake(side.context, certificates.client(), name))
    certificates.issue(name)
    replace = side.prepare(config)
    assert serial(handshake(side.context, certificates.client(), name)) == old
    replace()
    assert serial(handshake(side.context, certificates.client(), name)) != old


def test_a_wrong_new_certificate_changes_nothing(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    cert, key = certificates.issue("127.0.0.1")
    config = TlsConfig(cert_path=str(cert), key_path=str(key))
    side = ClientSide(config)
    assert side.context is not None
    old = serial(handshake(side.context, certificates.client(), "127.0.0.1"))
    cert.write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match="no usable certificate and key"):
        side.prepare(config)
    assert serial(handshake(side.context, certificates.client(), "127.0.0.1")) == old


class TestProblems:
    def test_a_file_that_is_not_there(self, pair: tuple[str, str], tmp_path: Path) -> None:
        missing = str(tmp_path / "missing.pem")
        for config, problem in (
            (TlsConfig(cert_path=missing), f"tls.cert-path: {missing}: no such file or directory"),
            (TlsConfig(cert_path=pair[0], key_path=missing), f"tls.key-path: {missing}: no such file or directory"),
            (TlsConfig(key_path=pair[1]), "tls.key-path: a key without a certificate; give tls.cert-path too"),
        ):
            assert tls_problems(config) == (problem,)

    def test_the_key_of_another_certificate(self, pair: tuple[str, str], certificates: Certificates) -> None:
        _, other = certificates.issue("127.0.0.1", file="other")
        (problem,) = tls_problems(TlsConfig(cert_path=pair[0], key_path=str(other)))
        assert problem == f"tls.key-path: {other}: not the private key of the certificate {pair[0]}"

    def test_a_file_with_something_else(self, pair: tuple[str, str], tmp_path: Path) -> None:
        text = tmp_path / "text.pem"
        text.write_text("hello")
        (problem,) = tls_problems(TlsConfig(cert_path=str(text), key_path=pair[1]))
        assert "no usable certificate and key" in problem

    def test_nobody_is_asked_for_a_passphrase(self, pair: tuple[str, str], tmp_path: Path) -> None:
        key = serialization.load_pem_private_key(Path(pair[1]).read_bytes(), None)
        locked = tmp_path / "locked.key"
        locked.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        (problem,) = tls_problems(TlsConfig(cert_path=pair[0], key_path=str(locked)))
        assert "no usable certificate and key" in problem
