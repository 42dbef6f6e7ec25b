"""Closing so that the other side sees that something went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
"""The value of SO_LINGER (on, 0 seconds) that makes a close send RST."""


def reset(transport: asyncio.Transport) -> None:
    """Close at once by RST: a plain close sends FIN, which ends an answer without a length as if it were whole."""
    if (sock := transport.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):  # the client may have been faster
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    transport.abort()
