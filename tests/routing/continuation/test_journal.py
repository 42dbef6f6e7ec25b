"""The journal: what it hands on, what it keeps, what it holds back, and when it lets go."""

from __future__ import annotations

import asyncio
import gzip
import sys
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fd_router.http.chunks import whole_chunks
from fd_router.http.dechunk import dechunked
from fd_router.openai.continuation.event_splitter import EventSplitter
from fd_router.routing.continuation import held_back
from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.continuation.event_bytes import UsualEnd
from fd_router.routing.continuation.journal import HOLD_LIMIT, STEP, Journal
from tests.support.outlets import StreamOwner, Written


def event(text: str, finish: str = "null") -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n' % (
        text.encode(), finish.encode(),
    )  # fmt: skip


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stream:
    """A journal, and what becomes of its bytes."""

    def __init__(
        self,
        limit: int = 1 << 20,
        budget: JournalBudget | None = None,
        usual: UsualEnd | None = None,
        *,
        aligned: bool = False,
    ) -> None:
        self.sent = Written()
        self.owner = StreamOwner()
        self.budget = budget or JournalBudget(1 << 20)
        self.journal = Journal(self.budget, limit, self.owner, usual or UsualEnd(), aligned=aligned)

    def begin(self, data: bytes) -> None:
        self.sent.append(self.journal.begin(data))
        self.journal.write_to(self.sent)

    @property
    def broken(self) -> int:
        """How often its owner was told that it broke."""
        return self.owner.broken

    @property
    def out(self) -> bytes:
        return b"".join(self.sent)

    @property
    def kept(self) -> bytes:
        """The content of what the journal keeps."""
        return dechunked(b"".join(self.journal.framed()))


def test_whole_events_are_handed_on_as_they_came() -> None:
    stream = Stream()
    pieces = [chunk(event(text)) for text in ("a", "b", "c", "d")]
    stream.begin(pieces[0])
    for piece in pieces[1:]:
        stream.journal.on_data(piece)
    assert stream.sent == pieces
    assert all(mine is theirs for mine, theirs in zip(stream.sent[1:], pieces[1:], strict=True))
    assert stream.kept == b"".join(map(event, "abcd"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 200])
def test_half_an_event_is_held_back(size: int) -> None:
    stream, whole = Stream(), chunk(event("a")) + chunk(event("b") + event("c")) + chunk(event("d"))[:-9]
    stream.begin(whole[:size])
    for at in range(size, len(whole), size):
        stream.journal.on_data(whole[at : at + size])
        assert stream.out == b"" or stream.out.endswith(b"\n\n\r\n")
    assert stream.out == chunk(event("a")) + chunk(event("b") + event("c"))
    assert stream.kept == event("a") + event("b") + event("c")
    stream.journal.hand_on()
    assert stream.out == whole


def test_events_that_end_as_windows_has_it() -> None:
    stream, piece = Stream(), chunk(b"data: 1\r\n\r\n")
    stream.begin(piece + b"9\r\n")
    stream.journal.on_data(b"data: 2")
    assert stream.out == piece


@pytest.mark.parametrize("size", [1, 4, 17, 1000])
@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n"])
def test_the_end_is_handed_on_with_the_last_chunk(size: int, blank: bytes) -> None:
    stream, whole = Stream(), chunk(event("a")) + chunk(b"data: [DONE]" + blank) + b"0\r\n\r\n"
    stream.begin(whole[:size])
    for at in range(size, len(whole), size):
        stream.journal.on_data(whole[at : at + size])
    assert stream.out == whole
    stream.journal.end(whole=True)
    assert stream.out == whole
    assert stream.budget.used == 0


def test_streams_learn_from_each_other_how_events_end() -> None:
    usual, other = UsualEnd(), b'data: {"choices":[{"delta":{},"finish_reason":null,"logprobs":null}]}\n\n'
    for first in (event("a"), other, event("b")):
        stream = Stream(usual=usual)
        pieces = [chunk(first), chunk(event("c")), chunk(other), chunk(event("", '"stop"'))]
        stream.begin(pieces[0])
        for piece in pieces[1:]:
            stream.journal.on_data(piece)
        assert stream.sent == pieces
    assert event("a").endswith(usual.end.removesuffix(b"\r\n"))


@pytest.mark.parametrize("error", [b'{"error":{"message":"x"}}', b'{"choices":[{"finish_reason":"abort"}]}'])
def test_a_short_event_that_gives_up_is_found_behind_one_that_goes_on(error: bytes) -> None:
    stream, good = Stream(), chunk(event("a"))
    stream.begin(good)
    stream.journal.on_data(good + chunk(b"data: " + error + b"\n\n"))
    assert stream.broken == 1
    assert stream.out == good + good


class TestChunksThatEndAnywhere:
    """A proxy may cut an engine's chunks by their size, or send each line in one of its own."""

    @pytest.mark.parametrize("size", [1, 2, 50, 100, 120])
    @pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
    def test_an_event_is_handed_on_with_the_chunk_that_ends_it(self, size: int, blank: bytes) -> None:
        events = [event(text)[:-2] + blank for text in "abcde"]
        stream, content = Stream(), b"".join(events)
        stream.begin(chunk(events[0]))
        for at in range(len(events[0]), len(content), size):
            stream.journal.on_data(chunk(content[at : at + size]))
            told = content[: at + size]
            assert len(stream.kept) >= told.rfind(blank) + len(blank)
            assert not EventSplitter().feed(content[len(stream.kept) : at + size])
        assert stream.kept == content
        stream.journal.on_data(b"0\r\nX-T: 1\r\n\r\n")
        stream.journal.end(whole=True)
        assert dechunked(stream.out) == content
        assert stream.out.rpartition(b"\n0\r\n")[2] in {b"\r\n", b"X-T: 1\r\n\r\n"}
        assert stream.budget.used == 0

    @pytest.mark.parametrize("pieces", [(b"\n", b"\n"), (b"\r\n", b"\r\n"), (b"\n\n",), (b"\r", b"\n", b"\r\n")])
    def test_an_event_is_not_whole_before_its_empty_line(self, pieces: tuple[bytes, ...]) -> None:
        stream, good = Stream(), event("a")
        stream.begin(chunk(good))
        stream.journal.on_data(chunk(event("b")[:-2]))
        for piece in pieces:
            assert stream.out == chunk(good)
            stream.journal.on_data(chunk(piece))
        assert dechunked(stream.out) == good + event("b")[:-2] + b"".join(pieces)

    @pytest.mark.parametrize("whole", [True, False])
    def test_an_event_that_gives_up(self, whole: bool) -> None:
        last = b'data: {"error":{"message":"dead"}}\n\n'
        stream, content = Stream(), event("a") + event("b") + last + b"data: [DONE]\n\n"
        pieces = [chunk(content[at : at + 70]) for at in range(0, len(content), 70)]
        stream.begin(pieces[0])
        for piece in pieces[1:]:
            stream.journal.on_data(piece)
            if stream.broken == 1:
                assert stream.kept == event("a")  # what came with it is generated once more
                stream.owner.broken = 2
                stream.journal.hand_on()
        stream.journal.on_data(b"0\r\n\r\n")
        stream.journal.end(whole=whole)
        assert stream.broken == 2
        assert dechunked(stream.out) == content
        assert stream.out.endswith(b"0\r\n\r\n")

    @pytest.mark.parametrize("limit", [0, 2 * STEP, 1 << 20])
    @pytest.mark.parametrize("aligned", [True, False])
    @settings(max_examples=30)
    @given(
        chunks=st.lists(st.integers(min_value=1, max_value=300), min_size=1),
        reads=st.lists(st.integers(min_value=1, max_value=400), min_size=1),
    )
    def test_nothing_is_lost(self, limit: int, aligned: bool, chunks: list[int], reads: list[int]) -> None:
        content = b"".join(event("x" * (number * 37 % 200)) for number in range(60)) + b"data: [DONE]\n\n"
        framed, at = b"", 0
        for number in range(len(content)):
            size = chunks[number % len(chunks)]
            framed += chunk(content[at : at + size]) if at < len(content) else b""
            at += size
        framed += b"0\r\n\r\n"
        stream, at = Stream(limit, aligned=aligned), reads[0]
        stream.begin(framed[:at])
        for number in range(1, len(framed)):
            stream.journal.on_data(framed[at : at + reads[number % len(reads)]])
            at += reads[number % len(reads)]
            if at >= len(framed):
                break
        stream.journal.end(whole=True)
        assert dechunked(stream.out) == content
        assert stream.out.endswith(b"0\r\n\r\n")
        assert stream.budget.used == 0

    def test_an_endless_event_is_handed_on(self) -> None:
        stream, content = Stream(), event("a") + b"data: " + b"x" * 2 * HOLD_LIMIT
        stream.begin(chunk(content[:50]))
        for at in range(50, len(content), 1000):
            stream.journal.on_data(chunk(content[at : at + 1000]))
        assert stream.journal.lost == "event_too_long"
        assert dechunked(stream.out) == content
        assert stream.budget.used == 0


BROKEN = [
    b'event: error\ndata: {"message":"x"}\n\n',
    event("", '"abort"'), event("", '"error"'), event("", '"abort"').replace(b'on":', b'on" : '),
    b'data: {"object": "error", "message": "x"}\n\n', b'data:  { "error" : {"message":"x"}}\n\n',
    event("", '"pd_reschedule"'), event("", '"recover_stop"'),
    b'data: {"id":"1","choices":[],"error":{"message":"x"}}\n\n', b'data: {"message":"x","object":"error"}\n\n',
    b'id: 1\ndata: {"id":"1",\ndata: "error":"dead"}\n\n',
    b'data: {"error": {"message": "the engine is dead"}}\n\n', b'data: {"error":{"message":"x"}}\n\n',
]  # fmt: skip


@pytest.mark.parametrize("last", BROKEN)
@pytest.mark.parametrize("size", [1, 10, 4000])
def test_an_event_that_gives_up_is_held_back_until_it_is_decided(last: bytes, size: int) -> None:
    stream, good = Stream(), chunk(event("a")) + chunk(event("b"))
    bad = chunk(last) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    stream.begin(good)
    for at in range(0, len(bad), size):
        stream.journal.on_data(bad[at : at + size])
    assert stream.broken == 1
    assert stream.out == good
    assert stream.kept == event("a") + event("b")
    stream.journal.hand_on()
    assert stream.out == good + bad


@pytest.mark.parametrize(
    "text", ['say \\"abort\\"', '{\\"error\\": 1}', "pd_reschedule", 'data: {\\"error\\"', "event: error"]
)
def test_what_a_text_is_about_is_no_event(text: str) -> None:
    stream = Stream()
    stream.begin(chunk(event("a")))
    stream.journal.on_data(chunk(event(text)))
    assert not stream.broken
    assert stream.out == chunk(event("a")) + chunk(event(text))


@pytest.mark.parametrize(
    "member", ['"tool":{"error":{"code":1}}', '"error":null', '"a":1,"error":""', '"parts":[{"object":"error"}]']
)
def test_an_error_of_something_else_is_none_of_the_stream(member: str) -> None:
    stream, odd = Stream(), chunk(event("b").replace(b'{"choices"', b'{%b,"choices"' % member.encode()))
    stream.begin(chunk(event("a")))
    stream.journal.on_data(odd)
    assert not stream.broken
    assert stream.out == chunk(event("a")) + odd


def test_an_error_is_found_behind_others_of_something_else_in_one_read() -> None:
    stream, odd = Stream(), chunk(event("b").replace(b'{"choices"', b'{"tool":{"error":1},"choices"'))
    stream.begin(chunk(event("a")))
    stream.journal.on_data(odd + chunk(b'data: {"id":1,"error":"dead"}\n\n') + chunk(event("c")))
    assert stream.broken == 1
    assert stream.out == chunk(event("a")) + odd


def test_a_tool_that_is_called_abort_is_no_end() -> None:
    stream, call = Stream(), chunk(b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"abort"}}]}}]}\n\n')
    stream.begin(chunk(event("a")))
    stream.journal.on_data(call)
    assert not stream.broken
    assert stream.out.endswith(call)


def whole_stream(size: int, *ends: bytes) -> list[bytes]:
    whole = b"".join(map(chunk, (event("a"), event("b"), *ends))) + b"0\r\n\r\n"
    return [whole[at : at + size] for at in range(0, len(whole), size)]


class TestStreamsThatDontSayThatTheyEnd:
    @pytest.mark.parametrize("size", [1, 7, 90, 1000])
    @pytest.mark.parametrize("ends", [(event("", '"stop"'),), (b"data: [DONE]\n\n",)])
    def test_where_others_did_it_is_held_back(self, size: int, ends: tuple[bytes, ...]) -> None:
        usual = UsualEnd()
        for number, last in enumerate([ends, (), ends, ()]):
            stream, (first, *rest) = Stream(usual=usual), whole_stream(size, *last)
            stream.begin(first)
            stream.journal.begun()
            for piece in rest:
                stream.journal.on_data(piece)
            assert (stream.broken, stream.journal.is_cut_off) == ((0, False) if last else (1, True)), number
            assert stream.out.endswith(b"\n\n\r\n" if stream.broken else b"0\r\n\r\n")
            assert stream.kept == event("a") + event("b") + b"".join(last)
            stream.journal.end(whole=True)
            assert stream.out == first + b"".join(rest)

    def test_in_chunks_that_end_anywhere(self) -> None:
        usual = UsualEnd()
        usual.is_said = True
        stream, content = Stream(usual=usual), event("a") + event("b") + event("c")
        stream.begin(chunk(content[:50]))
        for at in range(50, len(content), 50):
            stream.journal.on_data(chunk(content[at : at + 50]))
        assert not stream.broken
        stream.journal.on_data(b"0\r\n\r\n")
        assert (stream.broken, stream.journal.is_cut_off) == (1, True)
        assert not stream.out.endswith(b"\n0\r\n\r\n")
        stream.journal.hand_on()
        assert dechunked(stream.out) == content
        assert stream.out.endswith(b"\n0\r\n\r\n")

    @pytest.mark.parametrize("last", [b"", b'data: {"usage":{}}\n\n'])
    def test_where_no_stream_ever_did_it_is_whole(self, last: bytes) -> None:
        usual = UsualEnd()
        for _ in range(3):
            stream, pieces = Stream(usual=usual), whole_stream(1000, *filter(None, [last]))
            stream.begin(b"".join(pieces))
            assert not stream.broken
            stream.journal.end(whole=True)
            assert stream.out == b"".join(pieces)

    @pytest.mark.parametrize("events", [b"data: 1\n\n", b": nothing\n\n", b""])
    def test_events_of_another_form_need_not(self, events: bytes) -> None:
        usual = UsualEnd()
        usual.is_said = True
        stream, whole = Stream(usual=usual), (chunk(events) if events else b"") + b"0\r\n\r\n"
        stream.begin(whole)
        assert stream.out == whole
        assert not stream.journal.is_cut_off


@pytest.mark.parametrize("size", [1, 3, 100])
def test_an_event_in_small_chunks_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Else its first 64 KB alone would hold the loop for seconds, a byte in each chunk."""
    looked_at: list[int] = []

    def counted(body: bytes | bytearray, at: int = 0) -> tuple[list[bytes], int]:
        contents, end = whole_chunks(body, at)
        looked_at.extend(map(len, contents))
        return contents, end

    monkeypatch.setattr(held_back, "whole_chunks", counted)
    content = event("x" * 5000)
    stream = Stream()
    stream.begin(chunk(content[:size]))
    for at in range(size, len(content), size):
        stream.journal.on_data(chunk(content[at : at + size]))
    assert dechunked(stream.out) == content
    assert sum(looked_at) <= len(content)


def test_a_stream_beyond_its_limit_is_handed_on_and_not_kept() -> None:
    stream = Stream(limit=3 * STEP)
    piece = chunk(event("x" * 1000))
    stream.begin(piece)
    for _ in range(60):
        stream.journal.on_data(piece)
    stream.journal.on_data(chunk(event("half"))[:20])
    assert stream.journal.lost == "too_long"
    assert stream.out == piece * 61 + chunk(event("half"))[:20]
    assert stream.budget.used == 0


def test_all_streams_have_one_budget() -> None:
    budget = JournalBudget(9 * STEP)
    first, second = Stream(budget=budget), Stream(budget=budget)
    piece = chunk(event("x" * 1000))
    first.begin(piece)
    for _ in range(20):
        first.journal.on_data(piece)
    second.begin(piece)
    for _ in range(20):
        second.journal.on_data(piece)
    assert not first.journal.lost
    assert second.journal.lost == "no_budget"
    first.journal.close()
    assert budget.used == 0
    third = Stream(budget=budget)
    third.begin(piece)
    assert not third.journal.lost


def test_an_endless_event_is_handed_on() -> None:
    stream, before = Stream(), chunk(event("a"))
    stream.begin(before)
    stream.journal.on_data(before)
    stream.journal.on_data(b"fffff\r\ndata: ")
    for _ in range(70):
        stream.journal.on_data(b"x" * 1000)
    assert stream.journal.lost == "event_too_long"
    assert len(stream.out) > HOLD_LIMIT
    assert stream.out == before * 2 + b"fffff\r\ndata: " + b"x" * 70_000
    assert stream.budget.used == 0


def long_prompt(ids: int) -> bytes:
    prompt = ",".join(map(str, range(100_000, 100_000 + ids))).encode()
    delta = b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}'
    return b'data: {"choices":[%b],"prompt_token_ids":[%b]}\n\n' % (delta, prompt)


@pytest.mark.parametrize("size", [4000, 65_536, 1 << 20])
def test_the_first_event_may_have_the_ids_of_a_long_prompt(size: int) -> None:
    stream, first = Stream(), long_prompt(100_000)
    whole = chunk(b": hello\n\n") + chunk(first) + chunk(event("a")) + chunk(event("b"))
    stream.begin(whole[:size])
    for at in range(size, len(whole), size):
        stream.journal.on_data(whole[at : at + size])
        assert stream.out == b"" or stream.out.endswith(b"\n\n\r\n")
    assert stream.out == whole
    assert stream.kept == b": hello\n\n" + first + event("a") + event("b")


FOREIGN = {"gzip": gzip.compress(event("a") * 3, mtime=0), "lines": b'{"text":"a"}\n' * 3, "zeros": b"\0" * 100}


@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_event_from_the_beginning_is_not_held(kind: str, size: int) -> None:
    """Compressed, or JSON a line each: nobody can go on with it, and its client shall have it as it comes."""
    stream, whole = Stream(), chunk(FOREIGN[kind])
    stream.begin(whole[:size])
    for at in range(size, len(whole), size):
        stream.journal.on_data(whole[at : at + size])
    assert stream.journal.lost == "no_events"
    assert stream.out == whole
    assert stream.budget.used == 0


@pytest.mark.parametrize(
    "beginning", [b": ping", b"\ndata: 1", b"\xef\xbb\xbfid: 1", b"retry: 1", b"event: a\n", b"da"]
)
def test_what_events_begin_with(beginning: bytes) -> None:
    stream = Stream()
    stream.begin(chunk(beginning)[:-2])
    assert not stream.journal.lost
    assert stream.out == b""


def test_a_first_event_longer_than_the_journal_is_handed_on() -> None:
    stream, whole = Stream(limit=100_000), chunk(long_prompt(100_000)) + chunk(event("a"))
    stream.begin(whole[:5000])
    for at in range(5000, len(whole), 5000):
        stream.journal.on_data(whole[at : at + 5000])
    assert stream.journal.lost == "too_long"
    assert stream.out == whole
    assert stream.budget.used == 0


@pytest.mark.parametrize("text", ["", "word", "a word that is rather long", "x" * 3000])
def test_the_budget_counts_all_memory_that_is_kept(text: str) -> None:
    stream, piece = Stream(limit=1 << 30, budget=JournalBudget(1 << 30)), chunk(event(text))
    stream.begin(piece)
    for _ in range(2000):
        stream.journal.on_data(bytes(bytearray(piece)))
    kept = sum(map(sys.getsizeof, stream.journal._pieces)) + sys.getsizeof(stream.journal._pieces)
    assert len(stream.journal._pieces) == 2001
    assert 0.9 * kept <= stream.budget.used <= 1.1 * kept + 2 * STEP


@given(
    sizes=st.lists(st.integers(min_value=1, max_value=9_000), min_size=1, max_size=60),
    limit=st.sampled_from([0, STEP, 3 * STEP, 1 << 20]),
)
def test_no_byte_is_lost_however_the_stream_is_cut_and_whenever_its_journal_is_given_up(
    sizes: list[int], limit: int
) -> None:
    whole = b"".join(chunk(event("x" * (number * 37 % 700))) for number in range(200)) + b"0\r\n\r\n"
    stream, at = Stream(limit), sizes[0]
    stream.begin(whole[:at])
    for size in sizes[1:]:
        stream.journal.on_data(whole[at : at + size])
        at += size
    assert stream.journal.size == len(whole[:at])
    assert whole[:at].endswith(stream.journal.recent())
    stream.journal.end(whole=True)
    assert stream.out == whole[:at]
    assert stream.budget.used == 0


@pytest.mark.parametrize("size", [*range(1, 12), 16, 40])
@pytest.mark.parametrize("reads", [1, 10_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("first", [b": ping\n\n", b"event: x\n", b""])
def test_a_stream_of_events_is_known_in_chunks_of_any_size(
    size: int, reads: int, line_end: bytes, first: bytes
) -> None:
    """A read, or a chunk, may end before there is as much as the name of a field."""
    events = (first + event("one") + event("two")).replace(b"\n", line_end)
    body = b"".join(chunk(events[at : at + size]) for at in range(0, len(events) - 40, size))
    stream, step = Stream(), -(-len(body) // reads)
    stream.begin(body[:step])
    for at in range(step, len(body), step):
        stream.journal.on_data(body[at : at + step])
    assert not stream.journal.lost
    ends = [b"", *accumulate(part.replace(b"\n", line_end) for part in (first, event("one")))]
    assert dechunked(stream.out) in ends, "no half event"


@pytest.mark.parametrize("size", [*range(1, 20), 40, 85])
@pytest.mark.parametrize("step", [1, 7, 30, 10_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("first", [b": ping\n\n", b": a\n\n", b"id: 6\n: a\n\n"])
def test_chunks_are_framed_right_wherever_lines_and_chunks_end(
    size: int, step: int, line_end: bytes, first: bytes
) -> None:
    """Line ends at a chunk's beginning look like those at another one's end."""
    events = (first + event("one") + event("two", '"stop"') + b"data: [DONE]\n\n").replace(b"\n", line_end)
    body = b"".join(chunk(events[at : at + size]) for at in range(0, len(events), size)) + b"0\r\n\r\n"
    stream = Stream()
    stream.begin(body[:step])
    for at in range(step, len(body), step):
        stream.journal.on_data(body[at : at + step])
    stream.journal.end(whole=True)
    assert stream.out.endswith(b"0\r\n\r\n")
    assert dechunked(stream.out) == events
    assert not stream.broken


async def test_what_raises_on_the_way_is_told_to_its_owner_and_behind_its_end_to_the_log() -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    stream, first, second = Stream(), ZeroDivisionError(), ZeroDivisionError()
    stream.begin(chunk(event("a")))
    stream.journal.on_bug(first)
    assert (stream.owner.bugs, told) == ([first], [])
    stream.journal.end(whole=False)
    stream.journal.on_bug(second)
    assert stream.owner.bugs == [first]
    assert [context["exception"] for context in told] == [second]
