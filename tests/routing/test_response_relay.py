"""An answer on its way to its client: what is added to its head, and what is kept of its end."""

from __future__ import annotations

import msgspec
import pytest

from fd_router.http.heads import ResponseHead
from fd_router.openai.completion import Completion
from fd_router.routing.response_relay import ResponseRelay
from fd_router.telemetry.record import RequestRecord
from tests.support.outlets import Written

HEAD = ResponseHead.of(200, b"HTTP/1.1 200 OK\r\n", chunked=True)


class Stream:
    """A client's stream that writes down what it is given. Its outlet is there behind the head only."""

    def __init__(self) -> None:
        self.heads: list[tuple[bytes, bytes]] = []
        self.bodies = Written()
        self.outlet: Written

    def send_head(self, head: ResponseHead, body: bytes, extra: bytes = b"") -> None:
        self.heads.append((body, extra))
        self.outlet = self.bodies


class Grant(msgspec.Struct):
    counts_tokens: bool


class Relay(ResponseRelay):
    """One without the rest of a request's life."""

    __slots__ = ()

    def __init__(self, *, grant: Grant | None = None, decisions: dict[str, str] | None = None) -> None:
        self.record = RequestRecord("POST", "/v1/completions", "", 0.0)
        self._client = Stream()  # type: ignore[assignment]
        self._completion = Completion(b'{"prompt": "hello"}')
        self._completion.decisions = decisions
        self._grant = grant  # type: ignore[assignment]
        self._usage = self._journal = None
        self._has_asked = False

    def begin(self, body: bytes, extra: bytes = b"") -> Stream:
        self._write_head(HEAD, body, extra)
        return self._client  # type: ignore[return-value]

    def go_on(self, data: bytes) -> None:
        self.on_data(data)

    @property
    def kept(self) -> bytes:
        return self._usage.tail() if self._usage is not None else self._tail


def test_bytes_go_on_as_they_came_and_are_counted() -> None:
    relay = Relay()
    stream = relay.begin(b"one", b"x-a: b\r\n")
    relay.go_on(b"two!")
    assert stream.heads == [(b"one", b"x-a: b\r\n")]
    assert stream.bodies == [b"two!"]
    assert (relay.record.status, relay.record.bytes_out) == (200, 7)
    assert relay.kept == b"two!"


def test_decisions_are_told_in_the_head() -> None:
    relay = Relay(decisions={"prefill": "a; b", "decode": "c"})
    assert relay.begin(b"", b"x-a: b\r\n").heads == [(b"", b"x-a: b\r\nx-router-decision: a; b, c\r\n")]


@pytest.mark.parametrize("counts_tokens", [True, False])
def test_the_end_is_kept_where_tokens_are_counted(counts_tokens: bool) -> None:
    relay = Relay(grant=Grant(counts_tokens))
    stream = relay.begin(b"one")
    relay.go_on(b"two")
    assert relay.kept == (b"onetwo" if counts_tokens else b"two")
    assert stream.bodies == [b"two"]
