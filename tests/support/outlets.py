"""Where a stream goes to, and whose it is, for tests of what lies between: both write down what they are told."""

from __future__ import annotations


class Written(list[bytes]):
    """An outlet: what was written to it, piece by piece."""

    def write(self, data: bytes) -> None:
        self.append(data)


class StreamOwner:
    """The owner of a journal."""

    def __init__(self) -> None:
        self.broken = 0
        self.bugs: list[Exception] = []

    def on_stream_broken(self) -> None:
        self.broken += 1

    def on_bug(self, error: Exception) -> None:
        self.bugs.append(error)
