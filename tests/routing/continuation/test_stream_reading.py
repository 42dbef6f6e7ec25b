"""The reading of a stream: in steps, however it came, and from where it was read to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fd_router.routing.continuation.stream_reading import STEP, StreamReading, _parts

CHUNK = b'51\r\ndata: {"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}\n\n\r\n'


@given(st.lists(st.integers(0, 3 * STEP), max_size=12), st.integers(0, 20 * STEP))
def test_parts_are_what_follows_in_few_pieces(sizes: list[int], at: int) -> None:
    whole = b"".join(b"%c" % (65 + number) * size for number, size in enumerate(sizes))
    pieces = [b"%c" % (65 + number) * size for number, size in enumerate(sizes)]
    parts = list(_parts(pieces, at))
    assert b"".join(parts) == whole[at:]
    assert all(len(part) >= STEP for part in parts[:-1])


@given(st.lists(st.integers(1, len(CHUNK) * 60), min_size=1, max_size=5))
def test_what_grows_is_read_from_where_it_was_read_to(sizes: list[int]) -> None:
    stream, pieces = CHUNK * 400, []
    reading = StreamReading(lambda: pieces, chat=True)
    at = 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += len(pieces[-1])
        steps = sum(1 for _ in reading.read())
        assert steps <= size // STEP + 2
    assert reading.generated.whole_text == "word" * stream[:at].count(b"\n\n")
