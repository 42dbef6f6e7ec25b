"""A relay of KV events that loses some: from a server's publisher to whoever listens here."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import zmq
from processes import free_port


class LossyRelay:
    """Publishes at ``port`` what ``port_of_server`` publishes, but one batch in ``every``. A context manager."""

    def __init__(self, port_of_server: int, every: int) -> None:
        self.port = free_port()
        self.lost = self.passed = 0
        self.loses_all = False
        self._every = every
        self._context = zmq.Context()
        self._events = self._context.socket(zmq.SUB)
        self._events.connect(f"tcp://127.0.0.1:{port_of_server}")
        self._events.subscribe(b"")
        self._out = self._context.socket(zmq.PUB)
        self._out.bind(f"tcp://127.0.0.1:{self.port}")
        self._is_over = False
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._is_over:
            if not self._events.poll(100):
                continue
            frames = self._events.recv_multipart()
            if self.loses_all or (self.passed + self.lost) % self._every == self._every - 1:
                self.lost += 1
            else:
                self.passed += 1
                self._out.send_multipart(frames)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over = True
        self._thread.join(10)
        self._context.destroy(linger=0)
