"""TCP keepalive: a peer that vanished without a word (a machine gone, a path cut) is noticed though nothing is sent."""

from __future__ import annotations

import contextlib
import socket

PROBES = 3
"""Probes without an answer after which a connection is dead."""


def keep_alive(sock: socket.socket, seconds: int) -> None:
    """Probe the peer of ``sock`` after so many silent ``seconds``, and again as often; 0: never.

    What a listening socket is told here holds for the connections that it accepts.
    """
    if not seconds:
        return
    with contextlib.suppress(OSError):  # no TCP socket, or one that is gone
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", seconds), ("TCP_KEEPCNT", PROBES)):
            if (option := getattr(socket, name, None)) is not None:  # other systems know fewer
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
