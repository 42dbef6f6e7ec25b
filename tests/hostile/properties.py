"""What must hold of any bytes: no crash, and one meaning, with h11 as the second opinion."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import h11

from fd_router.engines.dialect import PairedRequest
from fd_router.engines.fastdeploy.dialect import FastDeployDialect
from fd_router.errors import BadRequestError, HttpError
from fd_router.http.heads import host_line, request_message
from fd_router.http.messages import Request
from fd_router.http.reader_settings import ReaderSettings
from fd_router.http.request_reader import RequestReader
from fd_router.instances.registration import parse_registration
from fd_router.openai.completion import Completion
from tests.hostile.recorder import read_request
from tests.support.fake_upstream import FakeListener, Line
from tests.support.live import live_config

AUTHORITY = b"10.0.0.1:8000"
MEMBER = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000})


def read(pieces: Iterable[bytes]) -> list[Request | HttpError]:
    """Give the reader the pieces, and return what it made of them."""
    live = live_config(proxy={"max_head_kb": 4})
    reader = RequestReader(ReaderSettings(live, lambda path: 4096, lambda: 0.0, lambda: "made"))
    for piece in pieces:
        if piece:
            reader.feed(piece)
    return list(reader.ready)


def summary(items: list[Request | HttpError]) -> list[Any]:
    """Make what was read comparable."""
    return [
        (x.head.method, x.head.path, x.head.query, tuple(x.head.headers), x.request_id, x.body)
        if isinstance(x, Request) else x.status
        for x in items
    ]  # fmt: skip


def check_requests(pieces: list[bytes]) -> None:
    """What is passed on is exactly one request to others, the same, however the bytes came."""
    items = read(pieces)
    assert all(isinstance(item, Request) for item in items[:-1]), "something was read behind an error"
    for item in items:
        if isinstance(item, Request) and item.head.path.startswith("/v1/") and item.head.method == "POST":
            check_forwarded(item)


def check_forwarded(request: Request) -> None:
    """An instance reads the request that was read here."""
    message = request_message(request, host_line(AUTHORITY), request.body)
    found, rest = read_request(message if isinstance(message, bytes) else b"".join(message))
    assert found is not None
    assert not found.error, found.error
    assert rest == b""
    target = request.head.path + (f"?{request.head.query}" if request.head.query else "")
    assert (found.method, found.target, found.body) == (b"POST", target.encode("latin-1"), request.body)
    assert found.values(b"host") == [AUTHORITY]
    assert found.values(b"content-length") == [b"%d" % len(request.body)]
    assert not found.values(b"transfer-encoding")


def check_body(body: bytes) -> None:
    """A body that is taken is the client's to both of a pair, but for the members that the router writes."""
    try:
        completion = Completion(body)
        own_id = completion.request_id
        paired = PairedRequest(body, own_id or "made", bool(own_id), completion.has_router_fields, completion.stream)
        spliced = FastDeployDialect().plan(paired, MEMBER, MEMBER).decode_body(None)
    except (BadRequestError, ValueError, RecursionError):
        return  # all of them are answered with 400
    try:
        before = members(body)
    except (ValueError, RecursionError):
        return  # bytes that aren't UTF-8, in a member that isn't looked at: both of the pair refuse it
    after = members(bytes(spliced))
    names = [name for name, _ in after]
    assert names.count("disaggregate_info") == 1
    assert dict(dict(after)["disaggregate_info"])["decode_ip"] == "10.0.0.1"
    own = {"disaggregate_info"} | ({"request_id"} if not completion.request_id else set())
    assert repr([each for each in after if each[0] not in own]) == repr([each for each in before if each[0] not in own])
    if not completion.request_id:
        assert [value for name, value in after if name == "request_id"] == ["made"]


def members(body: bytes) -> list[tuple[str, Any]]:
    """Return an object's members in order, with those that are there twice."""
    found: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=lambda pairs: pairs)
    return found


def check_answers(pieces: list[bytes], *, end: bool) -> None:
    """Of an answer that is whole to the router, the client reads all, once, and nothing but line ends is behind it."""
    line = Line()
    listener = line.send()
    for piece in pieces:
        if piece and not line.transport.is_closing():
            line.receive(piece)
    if end and not line.transport.is_closing():
        line.transport.lose()
    assert len(listener.heads) <= 1
    if listener.ending == "complete":
        check_answer(listener)


def check_answer(listener: FakeListener) -> None:
    """h11 reads one answer in what the client is sent."""
    head = listener.head
    closing = b"" if head.is_delimited else b"connection: close\r\n"
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(head.forward + head.framing + closing + b"\r\n" + listener.body)
    if not head.is_delimited:
        reader.receive_data(b"")
    statuses = []
    while True:
        event = reader.next_event()
        assert event is not h11.NEED_DATA, "the client waits for more"
        if isinstance(event, (h11.Response, h11.InformationalResponse)):
            statuses.append(event.status_code)
        if isinstance(event, h11.EndOfMessage):
            break
    assert statuses == [head.status]
    assert reader.trailing_data[0].strip(b"\r\n") == b"", "line ends in a later read are let pass: clients skip them"
