"""The access to instances: TLS towards them, and the key that the router shows them; read from files, and read anew."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fd_router.config.connections import ConnectionRule, ConnectionSettings
from fd_router.errors import ConfigError
from fd_router.http.heads import LONG_BODY, header_lines, request_message, without
from fd_router.http.messages import Request, RequestHead
from fd_router.http.request_fields import CREDENTIALS
from fd_router.http.tls import SHUTDOWN_SECONDS, client_context
from fd_router.spliced_body import Body

_NO_HEAD: Final = RequestHead("", "")

_FOR_ALL: Final = ConnectionRule("", ConnectionSettings())


class InstanceAccess:
    """How the router gets in at the instances of one rule. One object serves all of them.

    ``message`` is what a request to one of them is written with: a function of nobody's where no key has to be put in.
    """

    __slots__ = ("_context", "_key", "_known", "_lines", "_rule", "is_encrypted", "message", "scheme")

    def __init__(self, rule: ConnectionRule = _FOR_ALL, *, told_https: bool = False) -> None:
        """``told_https``: the instances' addresses say so. Raises ConfigError for files that can't be used."""
        settings = rule.settings
        self._rule = rule
        self.scheme = "https" if told_https else "http"
        """What their URLs begin with, by their own word: the names that logs and metrics know them by."""
        self.is_encrypted = told_https if settings.tls is None else settings.tls
        self._known, self._lines = _NO_HEAD, b""  # the last head, and its lines less credentials
        self._context, self._key = self._read()
        self.message: Callable[[Request, bytes, Body], bytes | tuple[bytes, Body]] = (
            self._keyed_message if settings.api_key_path else request_message
        )

    @property
    def authorization(self) -> str:
        """What requests of the router's own say in ``Authorization``, "" for nothing."""
        return self._key.decode("ascii")

    def tls_options(self, host: str) -> dict[str, Any]:
        """Return the options of ``create_connection`` by which a connection to ``host`` is encrypted, or not."""
        if self._context is None:
            return {}
        name = self._rule.settings.name or host
        return {"ssl": self._context, "server_hostname": name, "ssl_shutdown_timeout": SHUTDOWN_SECONDS}

    def prepare(self) -> Callable[[], None]:
        """Read the files anew; what is returned puts them in force. Raises ConfigError."""
        context, key = self._read()

        def replace() -> None:
            self._context, self._key = context, key

        return replace

    def _read(self) -> tuple[ssl.SSLContext | None, bytes]:
        rule = self._rule
        problems: list[str] = []
        context, key = None, b""
        try:
            context = client_context(rule) if self.is_encrypted else None
        except ConfigError as error:
            problems += error.problems
        try:
            key = _read_key(rule.key_of("api_key_path"), rule.settings.api_key_path)
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError(*problems)
        return context, key

    def _keyed_message(self, request: Request, host: bytes, body: Body) -> bytes | tuple[bytes, Body]:
        """Write a request as ``request_message`` does, with the router's key in the place of the client's."""
        head = request.head
        if head is not self._known:  # mostly one of a connection's requests after the other has the same
            self._known, self._lines = head, header_lines(without(head.headers, CREDENTIALS))
        start = b"%b%b%d\r\nx-request-id: %b\r\nauthorization: %b\r\n%b%b" % (
            head.start, host, len(body), request.request_id.encode("latin-1"), self._key, self._lines, head.hops,
        )  # fmt: skip
        return start + body if len(body) < LONG_BODY else (start, body)  # type: ignore[operator]  # short ones are bytes

    @property
    def in_words(self) -> str:
        """Say it for the log; never the key itself."""
        return f"{'TLS' if self.is_encrypted else 'no TLS'}, {'with a key' if self._key else 'without a key'}"

    def __repr__(self) -> str:
        return f"<InstanceAccess of {self._rule.match or 'all'}, {self.in_words}>"


def access_problems(rules: tuple[ConnectionRule, ...]) -> tuple[str, ...]:
    """Return a line for each file of the rules that can't be used."""
    problems: dict[str, None] = {}
    for rule in rules:
        for told_https in (False, True):
            try:
                InstanceAccess(rule, told_https=told_https)
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems)
    return tuple(problems)


def _read_key(option: str, path: str) -> bytes:
    """Return the value of the Authorization header for the key in the file, nothing without one. Raises ConfigError."""
    if not path:
        return b""
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{option}: {path}: {(error.strerror or str(error)).lower()}") from None
    if not key or not all(0x21 <= byte <= 0x7E for byte in key):
        raise ConfigError(f"{option}: {path}: one key of printable ASCII characters without spaces is needed")
    return b"Bearer " + key


PLAIN: Final = InstanceAccess()
"""Neither TLS nor a key."""
