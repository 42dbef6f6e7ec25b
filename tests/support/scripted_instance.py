"""An instance in a thread that is healthy and else answers with exactly the bytes it is told to."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from tests.support.ports import free_port

HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_POLL_SECS = 0.05
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Script = Callable[[bytes, bytes], Iterable[bytes]]
"""(head, body) of a request → the pieces of the answer."""


def nothing(head: bytes, body: bytes) -> Iterable[bytes]:
    """Answer with nothing at all."""
    return ()


ASKED_BY_ROUTERS = tuple(b"GET %b " % path for path in (b"/v1/models", b"/metrics", b"/version", b"/server_info"))
"""How requests begin by which a router learns what an instance is."""


class ScriptedInstance:
    """Listens at ``port`` until closed. ``script`` answers what isn't a probe; ``stays_open`` is for after the answer.

    A connection takes one request more than ``answers`` and closes instead of answering it, if that isn't None.
    With ``resets``, it is reset after the answer.
    ``heads`` are those of the requests it was sent, ``sent`` the bytes of answers that the kernel took.
    """

    def __init__(self) -> None:
        self.script: Script = nothing
        self.stays_open = True
        self.answers: int | None = None
        self.resets = False
        self.heads: list[bytes] = []
        self.sent = 0
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = free_port()
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(1)
        self._listener.settimeout(_POLL_SECS)
        self._is_accepting = True
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, *pieces: bytes, stays_open: bool = True) -> None:
        """Answer every request with ``pieces`` from now on."""
        self.script = lambda head, body: pieces
        self.stays_open = stays_open

    def stop_accepting(self) -> None:
        """Leave new connections to the kernel's backlog, which holds one or two."""
        self._is_accepting = False
        self._acceptor.join()

    def close(self) -> None:
        """End everything."""
        self.stop_accepting()
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while self._is_accepting:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader, contextlib.suppress(OSError):
            for served in itertools.count():
                head = _read_head(reader)
                if not head:
                    return
                body = reader.read(_length(head))
                if head.startswith(b"GET /health "):
                    connection.sendall(HEALTHY)
                    return
                if head.startswith(ASKED_BY_ROUTERS):  # it doesn't say what it is and serves
                    connection.sendall(NOT_FOUND)
                    return
                self.heads.append(head)
                if served == self.answers:
                    return
                for piece in self.script(head, body):
                    connection.sendall(piece)
                    self.sent += len(piece)
                if self.resets:
                    time.sleep(_POLL_SECS)  # what a reset overtakes is lost
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                if self.resets or not self.stays_open:
                    return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ScriptedInstance {self.url} {len(self.heads)} requests>"


def headers_of(head: bytes) -> list[tuple[str, str]]:
    """Return a head's headers as (name, value), in order."""
    pairs = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:-2]]
    return [(name, value) for name, _, value in pairs]


def _read_head(reader: socket.SocketIO | object) -> bytes:
    lines = []
    while line := reader.readline():  # type: ignore[attr-defined]
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _length(head: bytes) -> int:
    return next((int(value) for name, value in headers_of(head) if name.lower() == "content-length"), 0)
