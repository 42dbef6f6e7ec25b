"""TLS on both sides: contexts made of files, checked before use, and replaced in a running router."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from fd_router.config.connections import ConnectionRule
from fd_router.config.loading import TlsConfig
from fd_router.errors import ConfigError

SHUTDOWN_SECONDS = 2.0
"""How long the other side may take to confirm the end of a connection before it is cut."""

_ALPN = ["http/1.1"]


def tls_problems(config: TlsConfig) -> tuple[str, ...]:
    """Return a line for each file for the clients' side that can't be used."""
    try:
        server_context(config)
    except ConfigError as error:
        return error.problems
    return ()


def server_context(config: TlsConfig) -> ssl.SSLContext | None:
    """Make the context for clients, None when they use no TLS. Raises ConfigError."""
    if not config.cert_path:
        if config.key_path:
            raise ConfigError("tls.key-path: a key without a certificate; give tls.cert-path too")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    load_chain(context, "tls.cert-path", "tls.key-path", config.cert_path, config.key_path)
    return context


def client_context(rule: ConnectionRule) -> ssl.SSLContext:
    """Make the context for the instances of a rule. Raises ConfigError."""
    settings = rule.settings
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca_path:
        load_authorities(context, rule.key_of("ca_path"), settings.ca_path)
    else:
        context.load_default_certs()
    if settings.cert_path:
        cert, key = rule.key_of("cert_path"), rule.key_of("key_path")
        load_chain(context, cert, key, settings.cert_path, settings.key_path)
    return context


class ClientSide:
    """What connections from clients are encrypted with. Those that come after a replacement get the new certificate."""

    def __init__(self, config: TlsConfig) -> None:
        """Raise ConfigError for files that can't be used."""
        self._current = server_context(config)
        self.context = server_context(config)  # the listener's for good: it only leads to the current one
        if self.context is not None:
            self.context.sni_callback = self._choose  # OpenSSL calls it also when the client names no server

    def prepare(self, config: TlsConfig) -> Callable[[], None]:
        """Read the files anew; what is returned puts them in force. Raises ConfigError."""
        context = server_context(config)

        def replace() -> None:
            self._current = context

        return replace

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._current is not None:
            connection.context = self._current


def load_chain(context: ssl.SSLContext, cert_option: str, key_option: str, cert_path: str, key_path: str) -> None:
    """Have ``context`` show a certificate. Raises ConfigError, which names the options of both files."""
    cert, key = f"{cert_option}: {cert_path}", f"{key_option}: {key_path or cert_path}"
    _require_readable(cert, cert_path)
    _require_readable(key, key_path or cert_path)
    try:
        # A passphrase is never asked for: nobody sits at a router's terminal.
        context.load_cert_chain(cert_path, key_path or None, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{key}: not the private key of the certificate {cert_path}") from None
        raise ConfigError(f"{cert}, {key}: no usable certificate and key ({_said(error)})") from None


def load_authorities(context: ssl.SSLContext, option: str, path: str) -> None:
    """Have ``context`` trust the authorities of a file. Raises ConfigError, which names its option."""
    _require_readable(f"{option}: {path}", path)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{option}: {path}: no certificates in PEM format ({_said(error)})") from None


def _require_readable(what: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{what}: {(error.strerror or str(error)).lower()}") from None


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else str(error)
