"""Standard output and error as outlets that can't stop the router."""

from __future__ import annotations

import os
import select
import stat

_PIPE_BUF = 4096
"""What a pipe that polls as writable takes at once without blocking (POSIX: PIPE_BUF; on Linux a page)."""


class StreamOutlet:
    """An open file descriptor that belongs to somebody else: not closed here, its flags left alone.

    A pipe whose reader has stopped must not stop the router. Making it non-blocking would change it for every
    process that shares it, so it is asked first and fed in pieces that it takes without blocking.
    """

    __slots__ = ("_fd", "_poll", "name")

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self.name = name
        self._poll: select.poll | None = None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

    def put(self, data: bytearray) -> int:
        """Write some of ``data``; 0 = the reader is slow. Raises OSError."""
        try:
            if self._poll is None:
                return os.write(self._fd, data)
            return os.write(self._fd, data[:_PIPE_BUF]) if self._poll.poll(0) else 0
        except BlockingIOError:  # somebody made it non-blocking
            return 0

    def wait(self, seconds: float) -> bool:
        """Wait until the reader is ready again, ``seconds`` at most."""
        return self._poll is None or bool(self._poll.poll(seconds * 1000))

    def close(self) -> None:
        """Do nothing: the descriptor isn't ours."""
