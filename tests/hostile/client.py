"""A client that sends what it is told and says how it was answered."""

from __future__ import annotations

import contextlib

import msgspec

from tests.support.raw_client import IncompleteError, RawClient

PROBE_ID = "after-all-that"
PROBE = f"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: {PROBE_ID}\r\n\r\n".encode()


class Outcome(msgspec.Struct, frozen=True):
    """How a connection went: the statuses of the answers, and whether it serves another request after them."""

    answers: tuple[int, ...]
    closes: bool


def play(port: int, data: bytes, then: bytes = b"", expected: int = 1) -> Outcome:
    """Send ``data`` and ``then``, read ``expected`` answers to the first, and all to what is sent after it."""
    answers: list[int] = []
    with RawClient(port) as client, contextlib.suppress(IncompleteError, ConnectionError):
        with contextlib.suppress(ConnectionError):  # what is refused need not be read to its end
            client.send(data)
        answers += [client.read().status for _ in range(expected)]
        client.send(then + PROBE)
        while True:
            answer = client.read()
            if answer.header("x-request-id") == PROBE_ID:
                return Outcome(tuple(answers), closes=False)
            answers.append(answer.status)
    return Outcome(tuple(answers), closes=True)


def listen_in(port: int, data: bytes, quiet_secs: float) -> Outcome:
    """Send ``data`` and read answers until nothing comes for ``quiet_secs``."""
    answers: list[int] = []
    with RawClient(port, timeout=quiet_secs) as client:
        with contextlib.suppress(OSError):
            client.send(data)
        try:
            while True:
                answers.append(client.read().status)
        except TimeoutError:
            return Outcome(tuple(answers), closes=False)
        except (IncompleteError, OSError, ValueError):
            return Outcome(tuple(answers), closes=True)
