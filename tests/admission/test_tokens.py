from __future__ import annotations

import base64
from pathlib import Path

import pytest

from fd_router.admission.tokens import Token, read_tokens
from fd_router.config.loading import AccessConfig, load
from fd_router.config.reference import in_force
from fd_router.errors import ConfigError

SECRET = "0123456789abcdef"
PORT = {"server.port": 1}


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        (f"Bearer {SECRET}".encode(), True),
        (f"bearer  {SECRET} ".encode(), True),
        (basic(f"any:{SECRET}"), True),
        (basic(f":{SECRET}"), True),
        (basic(SECRET), False),
        (b"Basic \xff", False),
        (f"Bearer {SECRET}x".encode(), False),
        (f"Token {SECRET}".encode(), False),
        (SECRET.encode(), False),
        (b"", False),
        (b"Bearer", False),
    ],
)
def test_how_it_is_shown(header: bytes, fits: bool) -> None:
    assert Token(SECRET).is_in(header) is fits
    assert SECRET not in repr(Token(SECRET))


def test_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(SECRET + "\n")
    assert read_tokens(AccessConfig()) == (None, None)
    admin, register = read_tokens(AccessConfig(admin_token_path=str(path), register_token="x" * 16))
    assert admin is not None
    assert register is not None
    assert admin.is_in(f"Bearer {SECRET}".encode())
    assert not register.is_in(f"Bearer {SECRET}".encode())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "at least 16 printable ASCII characters without spaces are needed"),
        (b"short", "at least 16 printable ASCII characters without spaces are needed"),
        (b"two words 0123456789", "at least 16 printable ASCII characters without spaces are needed"),
        (b"\xff" * 20, "not ascii text"),
        (None, "no such file or directory"),
    ],
)
def test_a_file_without_a_token(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_tokens(AccessConfig(admin_token_path=str(path)))
    assert caught.value.problems == (f"access.admin-token-path: {path}: {problem}",)


def test_both_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="both given"):
        read_tokens(AccessConfig(register_token=SECRET, register_token_path="x"))


def test_no_message_and_no_page_shows_a_token() -> None:
    loaded = load(None, PORT, {"FD_ROUTER_ACCESS_ADMIN_TOKEN": SECRET})
    assert loaded.config.access.admin_token == SECRET
    shown = in_force(loaded.config, {})
    assert 'admin-token: "(secret)"' in shown
    assert 'register-token: ""' in shown
    assert SECRET not in f"{shown}{loaded.config!r}"
    with pytest.raises(ConfigError) as caught:
        load(None, PORT, {"FD_ROUTER_ACCESS_ADMIN_TOKEN": SECRET + " y"})
    assert SECRET not in str(caught.value)
    assert "what is given is not at least 16 printable ASCII characters" in str(caught.value)
