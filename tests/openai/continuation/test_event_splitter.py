"""The splitter of events: whole ones, however they come."""

from __future__ import annotations

import pytest

from fd_router.openai.continuation.event_splitter import EventSplitter

EVENTS = [b"data: 1\n\n", b"id: 2\r\ndata: 2\r\n\r\n", b"data: 3\r\r", b": \n\r\n", b"\n\n", b"data: 4\n\n"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_events_are_the_same_in_any_pieces(size: int) -> None:
    content, splitter, found = b"".join(EVENTS) + b"data: half", EventSplitter(), []
    for at in range(0, len(content), size):
        found += splitter.feed(content[at : at + size])
    assert found == EVENTS
    assert splitter.pending == b"data: half"


def test_what_is_pending_stays_where_it_stands() -> None:
    """An event of megabytes in small pieces would be copied with each."""
    splitter = EventSplitter()
    pending = splitter.pending
    for _ in range(100):
        assert splitter.feed(b"data: x") == []
    assert splitter.pending is pending
    assert splitter.feed(b"\n\ndata: y") == [b"data: x" * 100 + b"\n\n"]
    assert splitter.pending is pending
    assert pending == b"data: y"
