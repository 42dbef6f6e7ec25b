"""The name of a process among all that know of each other."""

from __future__ import annotations

import os
import secrets
import socket


def process_name() -> str:
    """Return a name that no other process of a set has, nor had: one that starts again is another one."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
