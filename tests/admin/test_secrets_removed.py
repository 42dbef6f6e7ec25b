from __future__ import annotations

import pytest

from fd_router.admin.secrets_removed import is_secret_name, values_removed, without_secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abc.def", "Authorization: (removed) (removed)"),
        ("got Bearer abc.def, then", "got Bearer (removed), then"),
        ("http://any:t0ken@10.0.0.1:80/x", "http://(removed)10.0.0.1:80/x"),
        ("key fdr-0123456789abcdef was", "key (removed) was"),
        ("admin-token: 'a b c'", "admin-token: (removed)"),
        ('"api_key": "x y", "model": "m"', '"api_key": (removed), "model": "m"'),
        ("FD_ROUTER_ACCESS_ADMIN_TOKEN=abc", "FD_ROUTER_ACCESS_ADMIN_TOKEN=(removed)"),
        (f"sha256: {'0a' * 32}", "sha256: (removed)"),
        ("-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----", "(removed)"),
        ("release prefill tokens: http://a:80, tokens: 12", "release prefill tokens: http://a:80, tokens: 12"),
        ("x known! y", "x (removed) y"),
    ],
)  # fmt: skip
def test_text(text: str, expected: str) -> None:
    assert without_secrets(text, ["known!", ""]) == expected


def test_values() -> None:
    before = {"a": [{"api-key": "x", "max_tokens": 3}], "token": {"deep": 1}, "password": 5}
    assert values_removed(before) == {
        "a": [{"api-key": "(removed)", "max_tokens": 3}], "token": {"deep": 1}, "password": "(removed)",
    }  # fmt: skip


def test_names() -> None:
    assert all(
        map(is_secret_name, ["FD_ROUTER_ACCESS_ADMIN_TOKEN", "api-key", "key", "client_secret", "Authorization"])
    )
    assert not any(map(is_secret_name, ["keys_path", "tokens", "max_tokens", "monkey", "tokenizer_url"]))
