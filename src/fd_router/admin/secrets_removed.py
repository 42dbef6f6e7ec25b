"""Redaction: text for a bug report, without what must not leave the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

REMOVED: Final = "(removed)"

USERINFO: Final = re.compile(r"://[^/\s@:]*:(?P<secret>[^/\s@]+)@")
"""A password in a URL."""

_PATTERNS: Final = (
    re.compile(r"(?i)(?P<keep>\b(?:bearer|basic)\s+)[^\s\"',;]+"),
    re.compile(r"(?P<keep>://)[^/\s@\"']*@"),
    re.compile(r"(?P<keep>)\b(?:fdr|sk)-[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?P<keep>)\b[0-9a-fA-F]{64}\b"),  # the hash of a key
    re.compile(r"(?P<keep>)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
    re.compile(
        r"(?i)(?P<keep>[\"']?\b[\w-]*(?:token|secret|password|passwd|credential|api[_-]?key|authorization)[\"']?\s*[:=]\s*)"
        r"(?!\s)(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}\]]+)"
    ),
)

_SECRET_NAME: Final = re.compile(r"(?i)token$|secret|password|passwd|credential|(^|[_-])(api[_-]?)?key$|authorization")


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """Return ``text`` without what looks like a secret, and without those that are ``known``."""
    for secret in sorted(filter(None, known), key=len, reverse=True):
        text = text.replace(secret, REMOVED)
    for pattern in _PATTERNS:
        text = pattern.sub(lambda found: f"{found['keep']}{REMOVED}", text)
    return text


def is_secret_name(name: str) -> bool:
    """Tell whether what is called so is probably a secret."""
    return _SECRET_NAME.search(name) is not None


def secret_values(value: Any) -> Iterator[str]:
    """Give the texts in plain data that names like those of secrets have."""
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, str) and is_secret_name(str(name)):
                yield item
            yield from secret_values(item)
    elif isinstance(value, list):
        for item in value:
            yield from secret_values(item)


def values_removed(value: Any) -> Any:
    """Return plain data without the values of names like those of secrets."""
    if isinstance(value, dict):
        return {
            name: REMOVED if is_secret_name(str(name)) and not isinstance(item, dict | list) else values_removed(item)
            for name, item in value.items()
        }
    return [values_removed(item) for item in value] if isinstance(value, list) else value
