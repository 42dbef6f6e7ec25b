"""Where an encrypted connection ended: at the other side's word, or where anybody on the way may have cut it."""

from __future__ import annotations

import asyncio
import ssl


def was_cut(transport: asyncio.BaseTransport) -> bool:
    """Tell whether the connection is encrypted, and is over without the other side's having said so (``close_notify``).

    Then what ends with it isn't known to be whole (RFC 9112 section 9.8). The transport doesn't tell both ends apart.
    """
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if connection is None:
        return False
    try:
        connection.read(1)
    except ssl.SSLWantReadError:  # it waits for more
        return True
    except (ssl.SSLError, ValueError):  # SSLZeroReturnError: it was told
        return False
    return False
