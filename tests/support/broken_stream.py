"""A stream that breaks, and goes on at another engine, all in the hand: no connections, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from fd_router.engines.continuation.engines import WAYS
from fd_router.engines.continuation.planning import plan_continuation
from fd_router.http.dechunk import Dechunker
from fd_router.openai.continuation.generated import Generated
from fd_router.openai.continuation.plan import Continuation, Finished, Impossible, Plan
from fd_router.openai.continuation.seam import Seam, last_events
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.continuation.event_bytes import UsualEnd
from fd_router.routing.continuation.journal import Journal
from fd_router.routing.continuation.stream_reading import StreamReading
from tests.support.outlets import StreamOwner, Written


def pieces_of(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


class Engine(Protocol):
    """One that can go on."""

    def answer(self, body: bytes, *, chat: bool) -> bytes:
        """Return the whole stream that answers ``body``."""


def places_to_cut(framed: bytes) -> list[int]:
    """Return where a stream is cut, at least, for what its client has to be all that it can have.

    That is: cut at any byte, it has what it has at one of these. Also looks that pieces of other sizes change nothing.
    """
    handed: list[int] = []
    for size in (1, 7, 64, 1000):
        sent = Written()
        journal = Journal(JournalBudget(1 << 30), 1 << 24, StreamOwner(), UsualEnd())
        journal.write_to(sent)
        lengths = []
        for at in range(0, len(framed), size):
            piece = framed[at : at + size]
            if at:
                journal.on_data(piece)
            else:
                sent.append(journal.begin(piece))
            lengths.append(sum(map(len, sent)))
        assert b"".join(sent) == framed[: lengths[-1]]
        handed = handed or lengths
        assert lengths == [handed[min(at + size, len(framed)) - 1] for at in range(0, len(framed), size)]
    firsts = dict(zip(reversed(handed), range(len(framed), 0, -1), strict=True))
    return [0, *sorted(firsts.values())[:-1]]  # whole, it is no longer cut anywhere


class BrokenStream:
    """What the client has of a stream, and what the router knows of it."""

    def __init__(self, body: bytes, dialect: str, *, chat: bool, exact: bool = False) -> None:
        self.source = SourceRequest(body, chat=chat)
        self.dialect = dialect
        self.exact = exact
        self.generated = Generated(chat=chat)
        self.out = b""
        self.broken = ""
        self.seam: Seam | None = None

    def receive(self, framed: bytes, size: int) -> None:
        """The first instance sends so much, in pieces of ``size`` bytes, and dies."""
        sent = Written()
        journal = Journal(JournalBudget(1 << 30), 1 << 24, StreamOwner(), UsualEnd())
        first, *more = pieces_of(framed, size) if framed else [b""]
        sent.append(journal.begin(first))
        journal.write_to(sent)
        for piece in more:
            journal.on_data(piece)
        self.out = b"".join(sent)
        reading = StreamReading(journal.framed, chat=self.source.chat)
        for _ in reading.read():
            pass
        self.generated = reading.generated
        reading.close()

    def plan(self) -> Plan:
        return plan_continuation(self.source, self.generated, WAYS[self.dialect], exact=self.exact)

    def go_on(self, engine: Engine, *, size: int = 1 << 20, upto: int | None = None) -> str:
        """Continue at ``engine``, which breaks behind ``upto`` bytes. Returns how: a way, or why not."""
        plan = self.plan()
        if isinstance(plan, Impossible):
            return plan.reason
        if isinstance(plan, Finished):
            self._send(b"" if self.generated.is_done else last_events(self.source, self.generated, plan.reason))
            self.out += b"0\r\n\r\n"
            return "finished"
        self._take(plan, engine.answer(plan.body, chat=self.source.chat)[:upto], size)
        return self.broken or plan.by

    def _take(self, plan: Continuation, framed: bytes, size: int) -> None:
        self.seam = seam = Seam(self.source, self.generated, plan)
        dechunker = Dechunker(lambda content: self._send(seam.feed(content)))
        for piece in pieces_of(framed, size):
            dechunker.feed(piece)
        dechunker.close()
        self.broken = seam.broken
        if seam.is_done:
            self.out += b"0\r\n\r\n"

    def _send(self, events: bytes) -> None:
        if events:
            self.out += b"%x\r\n%b\r\n" % (len(events), events)
