"""A port of this machine that leads elsewhere, where to is chosen for each connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

CONNECT_SECS = 60.0
Choose = Callable[[], tuple[str, int]]
"""Returns an address and a port. Raises LookupError when there is none: the connection is closed then."""


@contextlib.contextmanager
def forward(port: int, choose: Choose) -> Iterator[None]:
    """Lead 127.0.0.1:``port`` to what ``choose`` returns. Connections that are open at the end go on."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, choose))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, choose: Choose) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            try:
                server = socket.create_connection(choose(), timeout=CONNECT_SECS)
            except (OSError, LookupError):
                client.close()
                continue
            threading.Thread(target=_relay, args=(client, server), daemon=True).start()


def _relay(client: socket.socket, server: socket.socket) -> None:
    with client, server:
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
