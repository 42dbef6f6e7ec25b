"""How a decode mock instance takes a KV cache: a POST to the side channel of the prefill instance."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fd_router.devtools.mock.pd.cache_depot import Cache, OnCache, Taking
from fd_router.errors import UpstreamError
from fd_router.http.client import HttpClient, Origin
from fd_router.http.client_request import ClientRequest, request_bytes

PATH = "/mock/kv/take"

_decode = msgspec.json.Decoder(Cache).decode


class CacheTaker:
    """The orders of one instance."""

    def __init__(self) -> None:
        self._client = HttpClient()

    def take(self, host: str, port: int, taking: Taking, on_cache: OnCache) -> Order:
        """Ask for a cache; ``on_cache`` is called once, later."""
        origin = Origin(host, port)
        order = Order(on_cache)
        message = request_bytes("POST", PATH, origin.key.encode("ascii"), msgspec.json.encode(taking))
        order.request = self._client.send(origin, message, order)
        return order

    def close(self) -> None:
        """End all connections."""
        self._client.close()


class Order:
    """One order on its way: the listener of its answer."""

    def __init__(self, on_cache: OnCache) -> None:
        self._on_cache = on_cache
        self._status = 0
        self._content: list[bytes] = []
        self.request: ClientRequest | None = None

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if self.request is not None:
            self.request.cancel()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:  # noqa: ARG002
        """Note how it went."""
        self._status = status

    def on_data(self, content: bytes) -> None:
        """Take more of the answer."""
        self._content.append(content)

    def on_complete(self) -> None:
        """Hand the cache on."""
        self.request = None
        answer = b"".join(self._content)
        if self._status == 200:
            self._on_cache(_decode(answer), "")
        else:
            self._on_cache(None, answer.decode(errors="replace")[:200])

    def on_failed(self, error: UpstreamError) -> None:
        """The prefill instance can't be reached."""
        self.request = None
        self._on_cache(None, error.detail)
