"""The word to systemd, or what works like it."""

from __future__ import annotations

import contextlib
import os
import socket


def tell_supervisor(state: str) -> None:
    """Tell systemd, if it asked to be told (Type=notify), by the datagram of sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # a name in the abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
