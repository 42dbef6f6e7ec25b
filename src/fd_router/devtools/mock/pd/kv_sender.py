"""How a prefill mock instance hands KV caches to decode instances: small POSTs, over a few kept connections to each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from fd_router.errors import UpstreamError
from fd_router.http.client import HttpClient, Origin
from fd_router.http.client_request import ClientRequest, request_bytes

PATH = "/mock/kv"
LANES = 16
"""Messages under way to one decode instance; further ones wait."""

OnAnswer = Callable[[str], None]
"""Gets what went wrong; "" when nothing did."""


class KvSender:
    """The links of one prefill instance, made when first needed. A message may overtake another."""

    def __init__(self) -> None:
        self._client = HttpClient()
        self._links: dict[Origin, _Link] = {}

    def post(self, host: str, port: int, message: bytes, on_answer: OnAnswer) -> None:
        """Send ``message`` (JSON); ``on_answer`` is called once, later."""
        origin = Origin(host, port)
        link = self._links.get(origin)
        if link is None:
            link = self._links[origin] = _Link(self._client, origin)
        link.post(message, on_answer)

    def close(self) -> None:
        """End every link; what is under way is never answered."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._client.close()


class _Link:
    """The way to one decode instance."""

    def __init__(self, client: HttpClient, origin: Origin) -> None:
        self._client = client
        self.origin = origin
        self._authority = origin.key.encode("ascii")
        self._waiting: deque[tuple[bytes, OnAnswer]] = deque()
        self._under_way: dict[_Message, ClientRequest | None] = {}

    def post(self, message: bytes, on_answer: OnAnswer) -> None:
        self._waiting.append((message, on_answer))
        self._send_next()

    def ended(self, message: _Message) -> None:
        """A lane is free."""
        del self._under_way[message]
        self._send_next()

    def close(self) -> None:
        self._waiting.clear()
        for request in self._under_way.values():
            if request is not None:
                request.cancel()
        self._under_way.clear()

    def _send_next(self) -> None:
        if not self._waiting or len(self._under_way) >= LANES:
            return
        content, on_answer = self._waiting.popleft()
        message = _Message(self, on_answer)
        self._under_way[message] = None
        request = self._client.send(self.origin, request_bytes("POST", PATH, self._authority, content), message)
        if message in self._under_way:
            self._under_way[message] = request


class _Message:
    """One message on its way: the listener of its answer."""

    __slots__ = ("_link", "_on_answer", "_status")

    def __init__(self, link: _Link, on_answer: OnAnswer) -> None:
        self._link = link
        self._on_answer = on_answer
        self._status = 0

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:  # noqa: ARG002
        self._status = status

    def on_data(self, content: bytes) -> None:
        """The answer says nothing beside its status."""

    def on_complete(self) -> None:
        self._end("" if self._status == 200 else f"{self._link.origin.key} answered {self._status}")

    def on_failed(self, error: UpstreamError) -> None:
        self._end(f"{self._link.origin.key}: {error.detail}")

    def _end(self, trouble: str) -> None:
        self._link.ended(self)
        self._on_answer(trouble)
