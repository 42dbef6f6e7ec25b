"""The page: its parts put together when it is first wanted, with a policy that lets a browser run just these."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib.resources import files
from typing import Final

import msgspec

LIBRARIES: Final = ("vendor/preact.umd.js", "vendor/hooks.umd.js", "vendor/htm.umd.js")
SCRIPTS: Final = ("format.js", "charts.js", "fleet.js", "lists.js", "explain.js", "dialogs.js", "app.js")
"""In the order in which they need each other. There is no build: what is here is what the browser gets."""


class Page(msgspec.Struct, frozen=True):
    """What is sent."""

    body: bytes
    headers: tuple[tuple[str, str], ...]


def make_page() -> Page:
    """Put the page together from the files beside this one."""
    folder = files(__package__) / "static"
    libraries = "\n".join(_without_map((folder / name).read_text("utf-8")) for name in LIBRARIES)
    own = "\n".join((folder / name).read_text("utf-8") for name in SCRIPTS)
    script = f'{libraries}\n(() => {{\n"use strict";\n{own}}})();\n'
    style = (folder / "style.css").read_text("utf-8")
    body = (folder / "page.html").read_text("utf-8").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    return Page(body.encode(), _headers(script, style))


def _without_map(script: str) -> str:
    """Leave out where a debugger would look for the script's source, which isn't shipped."""
    return "\n".join(line for line in script.splitlines() if not line.startswith("//# sourceMappingURL="))


def _headers(script: str, style: str) -> tuple[tuple[str, str], ...]:
    """Forbid all that the page doesn't need: other scripts and styles, other hosts, frames, plug-ins, forms."""
    rules = {
        "default-src": ["'none'"],
        "script-src": _hashes([script]),
        "style-src": _hashes([style]),
        "connect-src": ["'self'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
        "require-trusted-types-for": ["'script'"],
    }
    policy = "; ".join(" ".join([name, *values]) for name, values in rules.items())
    return (
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    )


def _hashes(texts: Iterable[str]) -> list[str]:
    return [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
