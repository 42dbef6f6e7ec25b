"""What hops tell each other of a request's way: ``Via``, ``X-Forwarded-For``, ``X-Forwarded-Proto``.

A client is believed about it only if it is a proxy of one's own. What an instance is told is written once for each head
that is parsed, not for each request.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from fd_router.config.host_names import plain_address
from fd_router.errors import LOOP_DETECTED, BadRequestError
from fd_router.http.messages import Headers

_FOR, _PROTO, _VIA, _REAL_IP = b"x-forwarded-for", b"x-forwarded-proto", b"via", b"x-real-ip"

PEERS: Final = 1024
"""Clients' addresses that are remembered: to look for one among the trusted proxies takes as long as half a request."""

FORWARDING_FIELDS = frozenset((_FOR, _PROTO, _VIA, b"forwarded", b"x-forwarded-host", b"x-forwarded-port", _REAL_IP))
"""Headers by which a hop tells where a request came from."""


class Addresses(Protocol):
    """A set of addresses."""

    def __contains__(self, address: str, /) -> bool: ...


def make_pseudonym() -> str:
    """Return a name that no other router has."""
    return f"fd-router-{os.urandom(6).hex()}"


class Peer(msgspec.Struct, frozen=True, gc=False):
    """The other end of a client's connection."""

    address: str = ""  # "" where it has none
    is_trusted: bool = False  # a proxy of one's own, which is believed about its clients
    is_encrypted: bool = False


class Forwarding:
    """What instances are told of a request's way, and who is believed about it."""

    __slots__ = ("_line", "_pseudonym", "_trusted", "peer", "via")

    def __init__(self, trusted: Addresses, pseudonym: str) -> None:
        """``trusted``: addresses of proxies. ``pseudonym``: the name by which this router knows itself again."""
        self._trusted = trusted
        self._pseudonym = pseudonym.encode("ascii")
        self.via = f"1.1 {pseudonym}"
        """What the header says of this router."""
        self._line = b"via: %b\r\n" % self.via.encode("ascii")
        self.peer = lru_cache(maxsize=PEERS)(self._peer)
        """Returns what is known of a client's connection: see ``_peer``."""

    def _peer(self, address: str, is_encrypted: bool) -> Peer:
        """Return what is known of a client's connection from ``address``; "": a process on this machine."""
        return Peer(address, not address or address in self._trusted, is_encrypted)

    def check(self, told: Headers) -> None:
        """Raise BadRequestError if a request has been here before (RFC 9110 section 7.6.3). ``told``: its own fields.

        Behind it would be the same choice again, and so on until something gives way.
        """
        if any(name == _VIA and self._pseudonym in value for name, value in told):
            raise BadRequestError(
                "The request has passed through this router before: an instance's address is the router's own, or "
                "leads back to it",
                status=LOOP_DETECTED,
                code="loop",
            )

    def lines(self, peer: Peer, told: Headers) -> bytes:
        """Return the header lines for an instance. ``told``: what the client said, names in lower case."""
        believed = [(name, value) for name, value in told if peer.is_trusted or name == _VIA]
        if not any(name == _PROTO for name, _ in believed):
            believed.append((_PROTO, b"https" if peer.is_encrypted else b"http"))
        kept = b"".join([b"%b: %b\r\n" % field for field in believed])
        hop = b"%b: %b\r\n" % (_FOR, peer.address.encode("latin-1")) if peer.address else b""
        return kept + hop + self._line

    def client_of(self, peer: Peer, told: Headers) -> str:
        """Return the client's address: the peer's, or what trusted peers tell: the last that no trusted one is.

        It is for the log and for fairness. Who may do what goes by the peer.
        """
        client = peer.address
        if not (peer.is_trusted and told):
            return client
        for hop in reversed(_hops(told)):
            address = _address(hop)
            if not address:
                break
            client = address
            if address not in self._trusted:
                break
        return client

    def __repr__(self) -> str:
        return f"<Forwarding as {self._pseudonym.decode()}>"


def _hops(told: Headers) -> Sequence[str]:
    """Return the hops that ``X-Forwarded-For`` names, or the one of ``X-Real-IP`` (nginx)."""
    values = [value for name, value in told if name == _FOR] or [value for name, value in told if name == _REAL_IP]
    return b",".join(values).decode("latin-1").split(",")


def _address(hop: str) -> str:
    """Return the IP address in ``10.0.0.1``, ``10.0.0.1:4000``, ``::1`` or ``[::1]:4000``, "" if there is none.

    One of IPv4 that is written as one of IPv6 (``::ffff:10.0.0.1``) is returned as the former.
    """
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(plain_address(text))
    except ValueError:
        return ""
