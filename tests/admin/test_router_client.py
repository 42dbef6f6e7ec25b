from __future__ import annotations

import pytest

from fd_router.admin.router_client import Address, AdminError, RouterClient, RouterUnreachableError, instance_path
from fd_router.errors import ConfigError
from tests.support.ports import free_port
from tests.support.scripted_router import ScriptedRouter


@pytest.mark.parametrize(
    ("text", "url", "token"),
    [
        ("a:1", "http://a:1", ""),
        ("http://127.0.0.1:30000/", "http://127.0.0.1:30000", ""),
        ("https://router.example:443", "https://router.example:443", ""),
        ("[::1]:2", "http://[::1]:2", ""),
        ("any:se:c@r/et@router:8", "http://router:8", "se:c@r/et"),
        ("https://any:secret@[::1]:2", "https://[::1]:2", "secret"),
    ],
)
def test_addresses(text: str, url: str, token: str) -> None:
    address = Address.parse(text)
    assert (address.url, address.token) == (url, token)
    assert not token or token not in repr(address)


@pytest.mark.parametrize(
    "text", ["", "a", "ftp://a:1", "http://a:1/v1", "a:x", "a:0", "a:65536", "a b:1", "any:secret@a:0"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--router: .* is not an address like") as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


def client(address: str, **options: float) -> RouterClient:
    return RouterClient(Address.parse(address), **options)  # type: ignore[arg-type]


def test_the_token_is_shown_and_the_answer_read() -> None:
    with ScriptedRouter({"GET /x": (200, {"a": 1})}) as router:
        assert client(f"any:tok@{router.address}").ask("GET", "/x") == {"a": 1}
        assert client(router.address).with_token("late").ask("GET", "/x") == {"a": 1}
        assert client(f"any:tok@{router.address}").with_token("late").ask("GET", "/x") == {"a": 1}
        assert router.authorizations == ["Bearer tok", "Bearer late", "Bearer tok"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {"error": {"message": "refused: no token"}}), "no token; give the token with --token-path FILE"),
        ((404, {"error": {"message": "no x", "code": "no_such_instance"}}), "127.0.0.1:PORT: no x$"),
        ((404, {"error": {"message": "no such path: /x"}}), "no such path: /x: is that an fd-router"),
        ((404, b"<html>"), "it has no such endpoint: is that an fd-router"),
        ((400, {"problems": ["c.yaml:1: x", "c.yaml:2: y"]}), "c.yaml:1: x; c.yaml:2: y"),
        ((503, {"code": 503, "msg": "not healthy"}), "status 503: not healthy"),
        ((500, [1]), "status 500"),
        ((200, b"<html>"), "127.0.0.1:PORT: the answer isn't JSON: is that an fd-router?"),
    ],
)  # fmt: skip
def test_what_is_said_of_other_answers(answer: tuple[int, object], said: str) -> None:
    with ScriptedRouter({"GET /x": answer}) as router, pytest.raises(AdminError) as caught:
        client(router.address).ask("GET", "/x")
    assert said in str(caught.value).replace(router.address, "127.0.0.1:PORT") + "$"


def test_nobody_listens() -> None:
    with pytest.raises(RouterUnreachableError, match="nothing listens there; is the router up"):
        client(f"127.0.0.1:{free_port()}").send("GET", "/health")


def test_tls_that_is_not_spoken() -> None:
    with ScriptedRouter({}) as router, pytest.raises(RouterUnreachableError, match="doesn't speak TLS; try http://"):
        client(f"https://{router.address}").send("GET", "/health")


def test_an_authority_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="--ca-path: none.pem: no such file"):
        RouterClient(Address.parse("https://a:1"), ca_path="none.pem")


def test_keys_are_encoded() -> None:
    assert instance_path("http://[::1]:80", "/drain") == "/instances/%5B%3A%3A1%5D%3A80/drain"
