"""A client of a running router's own endpoints, for commands that send a request or two and end."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

import msgspec

from fd_router.config.host_names import authority
from fd_router.errors import UNREADABLE, ConfigError, FdRouterError

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

DEFAULT: Final = "http://127.0.0.1:30000"

FORM: Final = (
    "HOST:PORT, http://HOST:PORT or https://HOST:PORT, with any:TOKEN@ before the host where a token is needed"
)

_PATTERN: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?(?:[^:@/\s]*:(?P<token>\S+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:/@\s]+):(?P<port>\d{1,5})/?"
)


class AdminError(FdRouterError):
    """A command that came to nothing, with the mend."""


class RouterUnreachableError(AdminError):
    """Nobody answers there."""


class Address(msgspec.Struct, frozen=True):
    """Where a router listens for its operator, and what to show there."""

    host: str
    port: int
    secure: bool = False
    token: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address in one of its forms. Raises ConfigError, which doesn't tell a token."""
        found = _PATTERN.fullmatch(text)
        port = int(found["port"]) if found else 0
        if found is None or not 0 < port <= 65_535:
            raise ConfigError(f"--router: {text.rpartition('@')[2]!r} is not an address like {DEFAULT} ({FORM})")
        return cls(found["host"].strip("[]"), port, found["scheme"] == "https", found["token"] or "")

    @property
    def url(self) -> str:
        """The address without the token."""
        return f"{'https' if self.secure else 'http'}://{authority(self.host, self.port)}"

    def __repr__(self) -> str:
        return f"<Address {self.url}>"


class Reply(msgspec.Struct, frozen=True):
    """An answer: its status, its headers in lower case, its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""  # of the router

    def json(self) -> Any:
        """Read the body. Raises AdminError when it isn't JSON."""
        try:
            return msgspec.json.decode(self.body)
        except UNREADABLE:
            raise AdminError(f"{self.url}: the answer isn't JSON: is that an fd-router?") from None


class RouterClient:
    """Asks the router at ``address``. Environment variables for proxies are of no account."""

    def __init__(self, address: Address, *, timeout_secs: float = 10.0, ca_path: str = "") -> None:
        """``ca_path``: of the authority that signed the router's certificate; "": the system's. Raises ConfigError."""
        self.address = address
        self._timeout = timeout_secs
        self._context = _context(ca_path) if address.secure else None

    def with_token(self, token: str) -> RouterClient:
        """Return one that shows ``token``, unless it shows one already."""
        if token and not self.address.token:
            self.address = msgspec.structs.replace(self.address, token=token)
        return self

    def send(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS) -> Reply:
        """Send one request. Raises RouterUnreachableError."""
        with self._connection() as connection, self._told():
            answer = self._answer(connection, method, path, body, headers)
            fields = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, fields, answer.read(), self.address.url)

    @contextlib.contextmanager
    def follow(self, path: str) -> Iterator[http.client.HTTPResponse]:
        """Ask for an answer that goes on. Raises RouterUnreachableError, and AdminError for one that isn't 200 or 404.

        Reading it raises OSError, also when nothing comes for as long as an answer may take, and HTTPException.
        """
        with self._connection() as connection:
            with self._told():
                answer = self._answer(connection, "GET", path)
            if answer.status not in {200, 404}:
                raise AdminError(f"{self.address.url}: {_refusal(Reply(answer.status, {}, answer.read()))}")
            yield answer

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS) -> Any:
        """Send one request and return the JSON of its answer. Raises AdminError for one that isn't 200."""
        reply = self.send(method, path, body, headers)
        if reply.status != 200:
            raise AdminError(f"{self.address.url}: {_refusal(reply)}")
        return reply.json()

    def why_not_ready(self) -> str:
        """Return why no request could be served now; "" if one could, or the router is only about to end."""
        reply = self.send("GET", "/ready")
        reason = str(reply.json().get("reason", "")) if reply.status == 503 else ""
        return "" if reason == "draining" else reason

    def instances(self) -> list[dict[str, Any]]:
        """Return the entries of all members."""
        entries: list[dict[str, Any]] = self.ask("GET", "/instances")["instances"]
        return entries

    def instance(self, key: str) -> dict[str, Any]:
        """Return the entry of one. Raises AdminError."""
        entry: dict[str, Any] = self.ask("GET", instance_path(key))
        return entry

    def _connection(self) -> contextlib.closing[http.client.HTTPConnection]:
        host, port = self.address.host, self.address.port
        if self._context is not None:
            secure = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)
            return contextlib.closing(secure)
        return contextlib.closing(http.client.HTTPConnection(host, port, timeout=self._timeout))

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        given: Mapping[str, str] = NO_HEADERS,
    ) -> http.client.HTTPResponse:
        headers = {**given, **({"content-type": "application/json"} if body is not None else {})}
        if self.address.token:
            headers["authorization"] = f"Bearer {self.address.token}"
        connection.request(method, path, body, headers)
        return connection.getresponse()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say in words why there is no answer. Raises RouterUnreachableError."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise RouterUnreachableError(f"{self.address.url}: {self._why(error)}") from None

    def _why(self, error: Exception) -> str:
        if isinstance(error, ConnectionRefusedError):
            return "nothing listens there; is the router up, and is that its port (or its access.control-port)?"
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout:g} s"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{error.verify_message}; --ca-path names the authority's file"
        if isinstance(error, ssl.SSLError | http.client.BadStatusLine):
            other = "http" if self.address.secure else "https"
            return f"it doesn't speak {'TLS' if self.address.secure else 'plain HTTP'}; try {other}://"
        return (error.strerror if isinstance(error, OSError) else "") or str(error)


def instance_path(key: str, action: str = "") -> str:
    """Return the path of an instance's endpoint."""
    return f"/instances/{quote(key.removeprefix('http://').removeprefix('https://'), safe='')}{action}"


def _context(ca_path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_path or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--ca-path: {ca_path}: {(error.strerror or str(error)).lower()}") from None


def _refusal(reply: Reply) -> str:
    """Say what an error answer says, and what to do about the usual ones."""
    message = _message(reply)
    if reply.status == 401:
        return f"{message}; give the token with --token-path FILE, or in FD_ROUTER_ACCESS_ADMIN_TOKEN"
    if reply.status in {400, 403} and message:
        return message
    if reply.status == 404:
        if _code(reply) == "no_such_instance":
            return message
        hint = "is that an fd-router, and the port for its own endpoints (access.control-port)?"
        return f"{message or 'it has no such endpoint'}: {hint}"
    return f"status {reply.status}{f': {message}' if message else ''}"


def _body(reply: Reply) -> Mapping[str, Any]:
    try:
        answer = msgspec.json.decode(reply.body)
    except UNREADABLE:
        return {}
    return answer if isinstance(answer, dict) else {}


def _code(reply: Reply) -> str:
    error = _body(reply).get("error")
    return str(error.get("code", "")) if isinstance(error, dict) else ""


def _message(reply: Reply) -> str:
    answer = _body(reply)
    error = answer.get("error")
    if isinstance(error, dict):
        return str(error.get("message", ""))
    problems = answer.get("problems")
    return "; ".join(map(str, problems)) if isinstance(problems, list) else str(answer.get("msg", ""))
