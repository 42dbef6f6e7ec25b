"""Unsent bytes: how much of what was written to a connection is still to be sent."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable

_NONE = struct.pack("i", 0)


def unsent_bytes(transport: asyncio.Transport) -> Callable[[], int]:
    """Return what tells how many bytes ``transport`` still holds.

    With TLS the transport doesn't know of the encrypted bytes that wait below it. They wait only while the kernel takes
    no more, so that its own queue tells of them.
    """
    if transport.get_extra_info("ssl_object") is None:
        return transport.get_write_buffer_size
    descriptor: int = transport.get_extra_info("socket").fileno()

    def unsent() -> int:
        try:
            queued: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, _NONE))[0]
        except OSError:  # a system without it
            queued = 0
        return transport.get_write_buffer_size() + queued

    return unsent
