from __future__ import annotations

import pytest

from fd_router.http.write_batcher import WriteBatcher
from tests.support.fake_transport import FakeLoop, FakeTransport


def make_outbox() -> tuple[FakeLoop, WriteBatcher, FakeTransport, FakeTransport]:
    loop = FakeLoop()
    return loop, WriteBatcher(loop), FakeTransport(loop), FakeTransport(loop)  # type: ignore[arg-type]


def test_writes_wait_for_the_end_of_the_turn_and_keep_their_order() -> None:
    loop, batcher, one, other = make_outbox()
    batcher.outlet(one).write(b"1")
    batcher.outlet(other).write(b"2")
    batcher.outlet(one).write(b"3")
    assert one.writes == other.writes == []
    assert len(loop.soon) == 1
    loop.run_soon()
    assert one.writes == [b"1", b"3"]
    assert other.writes == [b"2"]


def test_pieces_are_written_together_and_in_their_place() -> None:
    loop, batcher, one, _ = make_outbox()
    batcher.outlet(one).write(b"1")
    batcher.outlet(one).write_buffers((b"2", b"3"))
    batcher.outlet(one).write(b"4")
    loop.run_soon()
    assert one.writes == [b"1", b"23", b"4"]


def test_flush_writes_at_once_and_only_once() -> None:
    loop, batcher, one, _ = make_outbox()
    batcher.outlet(one).write(b"1")
    batcher.flush()
    assert one.writes == [b"1"]
    batcher.outlet(one).write(b"2")
    loop.run_soon()
    assert one.writes == [b"1", b"2"]


def test_what_is_written_while_writing_is_not_lost() -> None:
    loop, batcher, one, other = make_outbox()
    one.write = lambda data: batcher.outlet(other).write(b"answer to " + bytes(data))  # type: ignore[method-assign]
    batcher.outlet(one).write(b"1")
    loop.run_soon()
    assert other.writes == [b"answer to 1"]


def test_closed_transports_are_left_alone() -> None:
    loop, batcher, one, other = make_outbox()
    batcher.outlet(one).write(b"1")
    batcher.outlet(other).write(b"2")
    one.abort()
    loop.run_soon()
    assert one.writes == []
    assert other.writes == [b"2"]


def test_a_write_that_raises_doesnt_take_the_others_with_it() -> None:
    loop, batcher, one, other = make_outbox()
    one.write_eof()  # to write after that is a bug
    batcher.outlet(one).write(b"1")
    batcher.outlet(other).write(b"2")
    with pytest.raises(AssertionError):
        loop.run_soon()
    loop.run_soon()
    assert other.writes == [b"2"]


def test_the_turn_tells_whether_something_given_is_still_here() -> None:
    loop, batcher, one, _ = make_outbox()
    given_in = batcher.turn
    batcher.outlet(one).write(b"1")
    assert batcher.turn == given_in
    loop.run_soon()
    assert batcher.turn != given_in
