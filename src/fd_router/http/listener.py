"""Where clients connect: sockets made here or handed over, and how to stop accepting without refusing anybody."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Protocol

from fd_router.config.host_names import authority
from fd_router.errors import FdRouterError
from fd_router.http.keepalive import keep_alive
from fd_router.http.tls_greeting import accept_all

BACKLOG = 4096
"""Connections that may wait to be accepted: a burst of clients shouldn't be refused."""

FULL_SECONDS = 0.2
"""How long nobody is accepted where no file is left for another connection."""

FIRST_HANDED_OVER = 3
"""The first file descriptor that systemd hands over (sd_listen_fds(3))."""

EVERY_ADDRESS = ("", "0.0.0.0")  # noqa: S104
"""Hosts that mean each address of the machine, IPv4 and IPv6: Go's listener knows no other wildcard."""

_ATTACH_REUSEPORT_CBPF = 51
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)

Accept = Callable[[], asyncio.Protocol]


def open_sockets(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Bind ``host``, a name or an address, at ``port``. Raises FdRouterError with what is wrong and the remedy."""
    wildcard = host in EVERY_ADDRESS
    opened: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            try:
                opened.append(_bind(family, address, reuse_port=reuse_port))
            except OSError as error:
                if not (wildcard and family == socket.AF_INET6 and error.errno in _NO_IPV6):
                    raise
    except UnicodeError:  # of the codec for names in other scripts
        raise FdRouterError(why_not_listening(host, port, OSError("that is no host name"))) from None
    except OSError as error:
        for sock in opened:
            sock.close()
        raise FdRouterError(why_not_listening(host, port, error)) from None
    return opened


def handed_over(environ: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """Return the listening sockets that systemd, or what works like it, opened for this process (``LISTEN_FDS``).

    The variables are removed, for they mean nothing to a child. Raises FdRouterError for a descriptor that is no
    listening TCP socket.
    """
    number, owner = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not number.isdigit() or owner != str(pid):
        return []
    descriptors = range(FIRST_HANDED_OVER, FIRST_HANDED_OVER + int(number))
    return [_take_over(descriptor) for descriptor in descriptors]


def why_not_listening(host: str, port: int, error: OSError) -> str:
    """Say why ``port`` can't be listened on, and the remedy. It begins as FastDeploy's line does."""
    return f"Failed to start server: {_reason(host, port, error)}"


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; stop it, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} may not be used by this user; choose one above 1023"
    reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error
    return f"can't listen on {authority(host, port)}: {reason}"


class Greeter(Protocol):
    """Who takes accepted sockets."""

    def greet(self, sock: socket.socket) -> None:
        """Begin with a client."""


class Listener:
    """Accepts connections from ``sockets``, which are its own from now on.

    ``greeter`` takes the sockets of clients whose connections are to be encrypted, instead of ``accept``.
    ``is_shared``: another process has the same sockets (they were handed over), so what waits there is not lost
    when this one closes them. ``takes_over``: another router may accept until this one does.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        accept: Accept,
        *,
        greeter: Greeter | None = None,
        is_shared: bool = False,
        takes_over: bool = False,
        keepalive_secs: int = 0,
    ) -> None:
        for sock in sockets:
            keep_alive(sock, keepalive_secs)
        self._greeter = greeter
        self.takes_over = takes_over
        self._accept = accept
        self._sockets = sockets
        self._is_shared = is_shared
        self._held: list[socket.socket] = []  # keeps them open while the servers close
        self._servers: list[asyncio.Server] = []
        self._read: list[socket.socket] = []  # those that a greeter accepts from
        self._last: set[asyncio.Task[Any]] = set()  # connections that waited when it stopped

    def hold(self) -> None:
        """Let clients connect, and wait to be accepted. Raises OSError."""
        for sock in self._sockets:
            sock.listen(BACKLOG)

    async def start(self) -> None:
        """Begin to accept. Raises OSError."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            self._held.append(sock.dup())
            if (greeter := self._greeter) is None:
                self._servers.append(await loop.create_server(self._accept, sock=sock, backlog=BACKLOG))
            else:
                sock.listen(BACKLOG)
                self._read_from(sock, greeter)
            if self.takes_over and not self._is_shared:
                _prefer_newest(sock)

    def _read_from(self, sock: socket.socket, greeter: Greeter) -> None:
        self._read.append(sock)
        asyncio.get_running_loop().add_reader(sock, self._on_acceptable, sock, greeter)

    def _on_acceptable(self, sock: socket.socket, greeter: Greeter) -> None:
        try:
            accept_all(sock, greeter.greet)
        except OSError:  # no file is left, and the loop would ask again at once
            loop = asyncio.get_running_loop()
            loop.remove_reader(sock)
            self._read.remove(sock)
            loop.call_later(FULL_SECONDS, self._read_again, sock, greeter)

    def _read_again(self, sock: socket.socket, greeter: Greeter) -> None:
        if self._held:  # not closed meanwhile
            self._read_from(sock, greeter)

    def stop(self) -> None:
        """Accept what already waits, for closing would reset it, and then no more."""
        self._close_servers()
        waiting = [] if self._is_shared else [connection for sock in self._held for connection in _waiting(sock)]
        self._close_sockets()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            if self._greeter is not None:
                self._greeter.greet(connection)
                continue
            task = loop.create_task(self._serve(loop, connection))
            self._last.add(task)
            task.add_done_callback(self._last.discard)

    async def _serve(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client may have left meanwhile
            await loop.connect_accepted_socket(self._accept, connection)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses that it can be reached at over a network, whatever was configured."""
        return tuple(sock.getsockname()[0] for sock in self._sockets if sock.family != socket.AF_UNIX)

    @property
    def is_greeting(self) -> bool:
        """Whether connections that were accepted last aren't served yet."""
        return bool(self._last)

    def close(self) -> None:
        """Close the sockets at once."""
        self._close_servers()
        for task in self._last:
            task.cancel()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in (*self._held, *self._sockets):
            sock.close()
        self._held.clear()

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self._read:
            asyncio.get_running_loop().remove_reader(sock)
        self._read.clear()


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    if host in EVERY_ADDRESS:
        return [(socket.AF_INET, ("0.0.0.0", port)), (socket.AF_INET6, ("::", port))]  # noqa: S104
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # type: ignore[misc]


def _bind(family: socket.AddressFamily, address: tuple[str, int], *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own, so that clients keep their plain IPv4 addresses
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _take_over(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise FdRouterError(f"LISTEN_FDS: descriptor {descriptor} is no socket: {error.strerror}") from None
    if not listening or sock.type != socket.SOCK_STREAM:
        sock.close()
        raise FdRouterError(f"LISTEN_FDS: descriptor {descriptor} is no listening stream socket (ListenStream=)")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _waiting(sock: socket.socket) -> list[socket.socket]:
    """Accept all connections that wait at ``sock``."""
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = sock.accept()
        except ConnectionAbortedError:  # that one has gone already
            continue
        except OSError:  # there is none left, or no descriptor for it
            return accepted
        connection.setblocking(False)
        accepted.append(connection)


def _prefer_newest(sock: socket.socket) -> None:
    """Have the kernel give new connections to the second of two listeners on a port, the one that came later.

    Without that it spreads them over both, and those whose handshake is under way when the older one closes are
    reset. The socket filter's one instruction returns the listener's index; where there is none with that index,
    the kernel chooses as usual (socket(7), SO_ATTACH_REUSEPORT_CBPF).
    """
    instruction = struct.pack("HBBI", 0x06, 0, 0, 1)  # BPF_RET | BPF_K, 1
    program = ctypes.create_string_buffer(instruction, len(instruction))
    with contextlib.suppress(OSError):  # not Linux: both are chosen, as if there were no filter
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, struct.pack("HL", 1, ctypes.addressof(program)))
