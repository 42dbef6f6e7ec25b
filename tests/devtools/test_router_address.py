import pytest

from fd_router.cli import run
from fd_router.devtools.router_address import RouterAddress
from fd_router.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "url", "token"),
    [
        ("a:1", "http://a:1", ""),
        ("http://127.0.0.1:30000/", "http://127.0.0.1:30000", ""),
        ("[::1]:2", "http://[::1]:2", ""),
        ("any:se:c@r/et@router:8", "http://router:8", "se:c@r/et"),
        ("http://any:secret@[::1]:2", "http://[::1]:2", "secret"),
    ],
)
def test_forms(text, url, token):
    address = RouterAddress.parse(text)
    assert (address.url, address.token) == (url, token)
    assert not token or token not in repr(address)


@pytest.mark.parametrize("text", ["", "a", "https://a:1", "http://a:1/v1", "a:x", "a:0", "a:65536", "a b:1", "::1:2"])
def test_what_is_no_address(text):
    with pytest.raises(ConfigError, match=r"not an address like http://127\.0\.0\.1:30000"):
        RouterAddress.parse(text)


def test_a_token_is_not_told_in_an_error():
    with pytest.raises(ConfigError) as error:
        RouterAddress.parse("any:secret@a:0")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("command", [["mock"], ["replay", "--trace", "x"]])
def test_both_tools_take_the_same_forms(command, capsys):
    assert run([*command, "--router", "ftp://x"]) == 2
    assert "--router: 'ftp://x' is not HOST:PORT or http://HOST:PORT" in capsys.readouterr().err
