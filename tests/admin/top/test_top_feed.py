"""The feed read by a program: events, a router that goes and comes, one that has none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fd_router.admin.router_client import AdminError, RouterUnreachableError
from fd_router.admin.top.feed import FeedReader, events_of


def test_events_are_read_line_by_line() -> None:
    lines = [b"retry: 2000\n", b"event: hello\n", b'data: {"a": 1}\n', b"\n", b": comment\n", b"data: 7\n"]
    assert list(events_of(lines)) == [("hello", {"a": 1})]


class Client:
    """Answers with each of ``answers`` in turn: lines, an error, or a status."""

    def __init__(self, *answers: Any) -> None:
        self.address = SimpleNamespace(url="http://r:1")
        self._answers = [*answers]

    @contextlib.contextmanager
    def follow(self, path: str) -> Iterator[Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        lines = answer if isinstance(answer, list) else []

        class Answer(list[bytes]):
            status = answer if isinstance(answer, int) else 200

        yield Answer(lines)


def test_it_tries_again_when_the_connection_is_lost() -> None:
    state = [b"event: state\n", b"data: 1\n"]
    slept: list[float] = []
    reader = FeedReader(Client(state, RouterUnreachableError("gone"), state, 404), slept.append)  # type: ignore[arg-type]
    events = reader.events()
    assert [next(events) for _ in range(5)] == [
        ("state", 1),
        ("lost", "the router ended the connection"),
        ("lost", "gone"),
        ("state", 1),
        ("lost", "the router ended the connection"),
    ]
    with pytest.raises(AdminError, match="has no dashboard"):
        next(events)
    assert slept == [2.0] * 3


def test_it_ends_when_it_is_told_to() -> None:
    reader = FeedReader(Client([b"event: state\n", b"data: 1\n"] * 2), lambda _: None)  # type: ignore[arg-type]
    events = reader.events()
    next(events)
    reader.stop()
    assert list(events) == []
