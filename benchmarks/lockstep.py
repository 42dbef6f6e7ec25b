"""Load in step: each connection has one request or chunk under way, and the next ones begin when all are through.

So two runs make the router do the same in the same order, however slow it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from works import ANSWER, PATH

ROUND_SECS = 60.0

_REQUEST = b"POST %b HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_ASKS_FOR_STREAM = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
).encode()
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHOICE = {"index": 0, "delta": {"content": " and so on"}, "finish_reason": None}
_EVENT = b"data: %b\n\n" % json.dumps({"choices": [_CHOICE]}, separators=(",", ":")).encode()
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


def _request(body: bytes) -> bytes:
    return _REQUEST % (PATH.encode(), len(body), body)


def _answer(value: object) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


_WHOLE, _MODELS = _answer(ANSWER), _answer({"object": "list", "data": [{"id": "m", "object": "model"}]})


class _Connection(asyncio.Protocol):
    """One end of a connection. ``on_data`` is called when something came."""

    def __init__(self, on_data: Callable[[_Connection], None]) -> None:
        self._on_data = on_data
        self.received = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._on_data(self)

    @property
    def has_message(self) -> bool:
        """Whether a whole message came; a stream's head is one."""
        head, found, body = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return bool(found) and len(body) >= int(length or 0)


class Lockstep:
    """Two instances, and clients of the router before them. ``bodies`` of the requests; none: a stream for each."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._requests = [_request(body) for body in bodies]
        self._sent = 0
        self._servers: list[asyncio.Server] = []
        self._streams: list[_Connection] = []  # the instances' ends of those that flow
        self._clients: list[_Connection] = []
        self._news = asyncio.Event()

    async def listen(self) -> list[int]:
        """Open the instances; return their ports."""
        loop = asyncio.get_running_loop()
        make = partial(_Connection, self._serve)
        self._servers = [await loop.create_server(make, "127.0.0.1", 0) for _ in range(2)]
        return [server.sockets[0].getsockname()[1] for server in self._servers]

    async def connect(self, port: int, connections: int) -> None:
        """Connect the clients to the router, and begin the streams."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            self._clients.append(
                (await loop.create_connection(partial(_Connection, self._notice), "127.0.0.1", port))[1]
            )
        if not self._requests:
            self._streams.clear()
            for client in self._clients:
                client.transport.write(_request(_ASKS_FOR_STREAM))
            await self._until_each(lambda client: client.received.endswith(_CHUNK))

    async def rounds(self, number: int) -> None:
        """Serve each client so many times: with a chunk of its stream, or an answer to its next request."""
        for _ in range(number):
            await self._round()

    async def _round(self) -> None:
        for client in self._clients:
            client.received = b""
        if self._requests:
            for client in self._clients:
                client.transport.write(self._requests[self._sent % len(self._requests)])
                self._sent += 1
            await self._until_each(lambda client: client.has_message)
        else:
            for stream in self._streams:
                stream.transport.write(_CHUNK)
            await self._until_each(lambda client: len(client.received) >= len(_CHUNK))

    def close(self) -> None:
        """Close everything."""
        for connection in (*self._clients, *self._streams):
            connection.transport.abort()
        for server in self._servers:
            server.close()

    def _serve(self, instance: _Connection) -> None:
        if not instance.has_message:
            return
        request, instance.received = instance.received, b""
        if request.startswith(b"GET"):
            instance.transport.write(_MODELS)
        elif self._requests:
            instance.transport.write(_WHOLE)
        else:
            instance.transport.write(_STREAM + _CHUNK)
            self._streams.append(instance)

    def _notice(self, client: _Connection) -> None:  # noqa: ARG002
        self._news.set()

    async def _until_each(self, is_served: Callable[[_Connection], bool]) -> None:
        async with asyncio.timeout(ROUND_SECS):
            while not all(map(is_served, self._clients)):
                self._news.clear()
                await self._news.wait()
