"""An instance that writes down exactly what bytes it is sent, and reads them with another parser than the router's."""

from __future__ import annotations

import asyncio
import itertools
import threading
from types import TracebackType
from typing import Self

import h11
import msgspec

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
LATER_SECS = 0.03
BY_THE_ROUTER = (b"host", b"content-length", b"x-request-id", b"via", b"x-forwarded-for", b"x-forwarded-proto")


class Received(msgspec.Struct, frozen=True):
    """One request as it was read, or bytes in which no request could be read."""

    raw: bytes
    method: bytes = b""
    target: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()  # names in lower case
    body: bytes = b""
    error: str = ""
    connection: int = 0

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all headers called ``name``."""
        return [value for key, value in self.headers if key == name]

    @property
    def rest(self) -> bytes:
        """What was received, less the headers that routers write themselves: the first of each."""
        head, _, body = self.raw.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        own = set(BY_THE_ROUTER)
        kept = []
        for line in lines:
            name = line.partition(b":")[0].lower()
            if name in own:
                own.discard(name)
            else:
                kept.append(line)
        return b"\r\n".join([first, *kept, b"", body])


class Script(msgspec.Struct, frozen=True):
    """How requests for a target with "hostile" in it are answered."""

    send: bytes = b""
    later: bytes = b""
    closes: bool = False


class Recorder:
    """Listens on 127.0.0.1 in a thread of its own. GETs, which are health checks, are answered and not kept.

    Its usual answer is the request's x-request-id in JSON.
    """

    def __init__(self) -> None:
        self.port = 0
        self.script = Script()
        self.numbers = itertools.count(1)  # of connections
        self._received: list[Received] = []
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._ending: asyncio.Event
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        if not self._started.wait(10):
            raise TimeoutError("the recorder doesn't listen")

    def take(self) -> list[Received]:
        """Return what came since the last call."""
        taken, self._received = self._received, []
        return taken

    def keep(self, received: Received) -> None:
        """Write down what came, unless it is a health check."""
        if received.error or received.method != b"GET" or b"hidden" in received.target:
            self._received.append(received)

    def close(self) -> None:
        """Stop listening, and close what is open."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._ending = asyncio.Event()
        open_ones: set[_Connection] = set()
        server = await self._loop.create_server(lambda: _Connection(self, open_ones), "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        self._started.set()
        await self._ending.wait()
        server.close()
        for connection in list(open_ones):
            connection.close()
        await asyncio.sleep(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recorder at {self.port}>"


class _Connection(asyncio.Protocol):
    """One connection, read by h11."""

    def __init__(self, recorder: Recorder, open_ones: set[_Connection]) -> None:
        self._recorder = recorder
        self._open_ones = open_ones
        self._raw = b""
        self._number = next(recorder.numbers)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._open_ones.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        if self._raw:
            self._recorder.keep(Received(self._raw, error="the connection ended in the middle of a request"))

    def data_received(self, data: bytes) -> None:
        self._raw += data
        while self._raw:
            found, rest = read_request(self._raw)
            if found is None:
                return
            self._raw = rest
            self._recorder.keep(msgspec.structs.replace(found, connection=self._number))
            if found.error:
                self._transport.close()
                return
            self._answer(found)

    def _answer(self, request: Received) -> None:
        script = self._recorder.script
        if b"hostile" not in request.target:
            body = msgspec.json.encode({"id": b"".join(request.values(b"x-request-id")).decode("latin-1")})
            self._transport.write(ANSWER % (len(body), body))
            return
        self._transport.write(script.send)
        if script.later:
            asyncio.get_running_loop().call_later(LATER_SECS, self._transport.write, script.later)
        if script.closes:
            self._transport.close()

    def close(self) -> None:
        self._transport.close()


def read_request(data: bytes) -> tuple[Received | None, bytes]:
    """Read one request as h11 does. Returns it, or None if there is no whole one yet, and what is behind it."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 21)
    reader.receive_data(data)
    head, body = None, b""
    try:
        while True:
            event = reader.next_event()
            if event is h11.NEED_DATA:
                return None, data
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
    except h11.RemoteProtocolError as error:
        return Received(data, error=str(error)), b""
    assert head is not None
    rest = reader.trailing_data[0]
    raw = data[: len(data) - len(rest)]
    return Received(raw, head.method, head.target, tuple(head.headers), body), rest
