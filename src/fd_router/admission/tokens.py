"""The tokens of the control side: one for instances that register, one for administrators."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from pathlib import Path

from fd_router.config.admission import TOKEN_FORM, TOKEN_PATTERN, AccessConfig
from fd_router.errors import ConfigError


class Token:
    """One secret. Only its hash is kept, and compared in a time that tells nothing about it."""

    __slots__ = ("_digest",)

    def __init__(self, secret: str) -> None:
        self._digest = hashlib.sha256(secret.encode()).digest()

    def is_in(self, authorization: bytes) -> bool:
        """Tell whether an Authorization header's value has it: ``Bearer TOKEN``, or as a Basic password.

        The latter is what HTTP libraries make of ``http://any:TOKEN@router:30000``: an instance that knows no tokens
        can be given such an address of the router.
        """
        return hmac.compare_digest(hashlib.sha256(_credentials(authorization)).digest(), self._digest)

    def is_same(self, other: Token | None) -> bool:
        """Tell whether ``other`` is the same secret."""
        return other is not None and other.has_digest(self._digest)

    def has_digest(self, digest: bytes) -> bool:
        """Tell whether that is the secret's SHA-256."""
        return hmac.compare_digest(self._digest, digest)

    def __repr__(self) -> str:
        return "<Token>"


def _credentials(authorization: bytes) -> bytes:
    scheme, _, value = authorization.partition(b" ")
    value = value.strip()
    if scheme.lower() == b"bearer":
        return value
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def read_tokens(access: AccessConfig) -> tuple[Token | None, Token | None]:
    """Return the tokens for admin endpoints and for registering, None where none is needed. Raises ConfigError."""
    return (
        _read("access.admin-token", access.admin_token, access.admin_token_path),
        _read("access.register-token", access.register_token, access.register_token_path),
    )


def _read(option: str, secret: str, path: str) -> Token | None:
    if secret and path:
        raise ConfigError(f"{option} and {option}-path are both given; one of them is enough")
    if path:
        try:
            secret = Path(path).read_bytes().decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not ASCII text"
            raise ConfigError(f"{option}-path: {path}: {(reason or str(error)).lower()}") from None
        if not secret or not re.fullmatch(TOKEN_PATTERN, secret):
            raise ConfigError(f"{option}-path: {path}: {TOKEN_FORM} are needed")
    return Token(secret) if secret else None
