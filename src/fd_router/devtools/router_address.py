"""The address of a router, as the tools' ``--router`` takes it."""

from __future__ import annotations

import re

import msgspec

from fd_router.errors import ConfigError
from fd_router.http.client import Origin

FORM = "HOST:PORT or http://HOST:PORT, with any:TOKEN@ before the host where a token is needed"
PATTERN = r"(?:http://)?(?:[^:@/\s]*:(?P<token>\S+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:/@\s]+):(?P<port>\d{1,5})/?"

_MOST = 65_535


class RouterAddress(msgspec.Struct, frozen=True):
    """Where a router listens, and the token (or API key) to show there; "": none."""

    origin: Origin
    token: str = ""

    @classmethod
    def parse(cls, text: str) -> RouterAddress:
        """Read an address in one of its forms. Raises ConfigError, which doesn't tell a token."""
        found = re.fullmatch(PATTERN, text)
        port = int(found["port"]) if found else 0
        if found is None or not 0 < port <= _MOST:
            raise ConfigError(
                f"--router: {text.rpartition('@')[2]!r} is not an address like http://127.0.0.1:30000 ({FORM})"
            )
        return cls(Origin(found["host"].strip("[]"), port), found["token"] or "")

    @property
    def url(self) -> str:
        """The address without the token."""
        return f"http://{self.origin.key}"

    def __repr__(self) -> str:
        return f"<RouterAddress {self.url}>"
