"""A client that sends the bytes it is told to, and reads answers by their framing: for what HTTP libraries won't do."""

from __future__ import annotations

import json
import socket
import struct
from types import TracebackType
from typing import Any, Self

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class IncompleteError(Exception):
    """The connection ended in the middle of an answer."""


class Answer:
    """A status line, headers as (name, value) in the order they came, and the body without its framing."""

    def __init__(self, version: str, status: int, reason: str, headers: list[tuple[str, str]]) -> None:
        self.version = version
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = b""

    def header(self, name: str) -> str | None:
        """Return the only value of header ``name`` (any case), or None; two are an error."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{len(values)} headers called {name}"
        return values[0] if values else None

    @property
    def names(self) -> set[str]:
        """The headers' names, in lower case."""
        return {name.lower() for name, _ in self.headers}

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.headers} {self.body[:200]!r}>"


def request(path: str, body: bytes = b"", *headers: str, method: str = "POST", version: str = "1.1") -> bytes:
    """Make a request with a sized body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: router.test", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class RawClient:
    """One connection to 127.0.0.1. ``receive_buffer``, in bytes, is the kernel's for a client that doesn't read."""

    def __init__(self, port: int, *, timeout: float = 60.0, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.reader = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self.socket.sendall(data)

    def read_head(self) -> Answer:
        """Read an answer's head."""
        version, status, reason = self._line().split(" ", 2)
        headers = []
        while line := self._line():
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        return Answer(version, int(status), reason, headers)

    def read(self, *, head_only: bool = False) -> Answer:
        """Read a whole answer. Raises IncompleteError, or ConnectionResetError."""
        answer = self.read_head()
        length = answer.header("content-length")
        if head_only or answer.status < 200 or answer.status in (204, 304):
            pass
        elif answer.header("transfer-encoding") == "chunked":
            answer.body = b"".join(self.read_chunks([]))
        elif length is not None:
            answer.body = self._exactly(int(length))
        else:
            answer.body = self.reader.read()
        return answer

    def is_at_end(self) -> bool:
        """Wait for the other side; True when it closes, False when it sends something."""
        return self.reader.read(1) == b""

    def read_chunk(self) -> bytes:
        """Read one chunk's data, empty for the last one."""
        size = int(self._line(), 16)
        data = self._exactly(size)
        if self._line():
            raise IncompleteError(f"a chunk of {size} bytes without its end")
        return data

    def read_chunks(self, received: list[bytes]) -> list[bytes]:
        """Read all chunks into ``received``, which has what came when it ends with an error, and return it."""
        while chunk := self.read_chunk():
            received.append(chunk)
        return received

    def reset(self) -> None:
        """Leave by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        """Leave."""
        self.reader.close()
        self.socket.close()

    def _line(self) -> str:
        line = self.reader.readline(65536)
        if not line.endswith(b"\r\n"):
            raise IncompleteError(f"the connection ended after {line!r}")
        return line[:-2].decode("latin-1")

    def _exactly(self, size: int) -> bytes:
        data = self.reader.read(size)
        if len(data) < size:
            raise IncompleteError(f"{len(data)} bytes of {size}")
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RawClient {self.socket!r}>"
