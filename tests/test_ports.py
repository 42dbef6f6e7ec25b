"""The ports that tests give to processes are nobody else's."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ports
from tests.support.ports import free_port

ROOT = Path(__file__).parents[1]
RANGE = (ports.FIRST, ports.LAST)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> range:
    """Let there be just twenty ports, each of them free."""
    first = free_port()
    while first + 20 > ports.LAST or not all(map(is_free, range(first, first + 20))):
        first = free_port()
    monkeypatch.setattr(ports, "FIRST", first)
    monkeypatch.setattr(ports, "LAST", first + 19)
    return range(first, first + 20)


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_none_is_given_twice_nor_one_that_somebody_has(few: range) -> None:
    with socket.create_server(("127.0.0.1", few[10])):
        given = set()
        with pytest.raises(OSError, match="no free port"):
            while True:
                given.add(free_port())
        assert few[10] not in given
        assert len(given) >= 10  # others may have asked for some


def test_another_process_is_given_other_ones(few: range) -> None:
    mine = {free_port() for _ in range(10)}
    code = (
        "from tests.support import ports\n"
        f"ports.FIRST, ports.LAST = {few[0]}, {few[-1]}\n"
        "print(*[ports.free_port() for _ in range(5)])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not mine & set(map(int, done.stdout.split()))


def test_a_claim_ends_when_many_more_were_asked_for() -> None:
    for _ in range(ports.KEPT + 10):
        port = free_port()
        assert RANGE[0] <= port <= RANGE[1]
    assert len(ports._claims) == ports.KEPT
