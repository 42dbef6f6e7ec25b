from __future__ import annotations

from fd_router.http.write_batcher import Outbox
from tests.support.fake_transport import FakeLoop, FakeTransport


def make_outbox() -> tuple[FakeLoop, Outbox, FakeTransport, FakeTransport]:
    loop = FakeLoop()
    return loop, Outbox(loop), FakeTransport(loop), FakeTransport(loop)  # type: ignore[arg-type]


def test_writes_wait_for_the_end_of_the_turn_and_keep_their_order() -> None:
    loop, outbox, one, other = make_outbox()
    outbox.write(one, b"1")
    outbox.write(other, b"2")
    outbox.write(one, b"3")
    assert one.writes == other.writes == []
    assert len(loop.soon) == 1
    loop.run_soon()
    assert one.writes == [b"1", b"3"]
    assert other.writes == [b"2"]


def test_pieces_are_written_together_and_in_their_place() -> None:
    loop, outbox, one, _ = make_outbox()
    outbox.write(one, b"1")
    outbox.write_pieces(one, (b"2", b"3"))
    outbox.write(one, b"4")
    loop.run_soon()
    assert one.writes == [b"1", b"23", b"4"]


def test_flush_writes_at_once_and_only_once() -> None:
    loop, outbox, one, _ = make_outbox()
    outbox.write(one, b"1")
    outbox.flush()
    assert one.writes == [b"1"]
    outbox.write(one, b"2")
    loop.run_soon()
    assert one.writes == [b"1", b"2"]


def test_what_is_written_while_writing_is_not_lost() -> None:
    loop, outbox, one, other = make_outbox()
    one.write = lambda data: outbox.write(other, b"answer to " + bytes(data))  # type: ignore[method-assign]
    outbox.write(one, b"1")
    loop.run_soon()
    assert other.writes == [b"answer to 1"]


def test_closed_transports_are_left_alone() -> None:
    loop, outbox, one, other = make_outbox()
    outbox.write(one, b"1")
    outbox.write(other, b"2")
    one.abort()
    loop.run_soon()
    assert one.writes == []
    assert other.writes == [b"2"]
