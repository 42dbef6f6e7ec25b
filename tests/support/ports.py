"""Ports for processes that tests start."""

from __future__ import annotations

import contextlib
import random
import socket
from collections import deque

FIRST, LAST = 20_000, 32_000
"""Below those that the kernel gives out by itself, to outgoing connections too (Linux: from 32768, others: 49152)."""

KEPT = 64
"""Claims held at a time: far more than the ports of one test, and few enough for any limit of open files."""

_dice = random.Random()
_claims: deque[contextlib.ExitStack] = deque()


def free_port(row: int = 1) -> int:
    """Return a TCP port that nobody has, and that no other process is given by this; the first of so many in a ``row``.

    The UDP port of the same number is held as the sign of that, until many more were asked for or the process ends:
    whoever will listen may take his time, whatever else runs on the machine. Raises OSError when there is none.
    """
    for _ in range(1000):
        first = _dice.randint(FIRST, LAST - row + 1)
        with contextlib.ExitStack() as claims:
            try:
                for port in range(first, first + row):
                    claim = claims.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    claim.bind(("127.0.0.1", port))
                    _try(port)
            except OSError:
                continue
            _hold(claims.pop_all())
            return first
    raise OSError(f"no free port from {FIRST} to {LAST}")


def _try(port: int) -> None:
    """Bind ``port`` at every address, and leave it. Raises OSError; old connections of it are a reason too."""
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("", port))


def _hold(claim: contextlib.ExitStack) -> None:
    _claims.append(claim)
    if len(_claims) > KEPT:
        _claims.popleft().close()
