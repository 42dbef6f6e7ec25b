"""The journal of a stream: the bytes handed on, kept by reference, so that another instance can go on behind them.

A stream's bytes come as its instance framed them. Those behind the last whole event are held back until the rest is
there: the client never has half an event, which no continuation could complete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import MutableSequence, Sequence
from typing import Final, Protocol

from fd_router.http.chunks import LAST_CHUNK
from fd_router.http.client_stream import NOWHERE, BodyOutlet
from fd_router.http.upstream_contract import NOBODY
from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.continuation.event_bytes import (
    FINISH,
    LOOK_OF_EVENTS,
    NEVER,
    NOTHING,
    ROLE,
    UNFINISHED,
    WHOLE,
    WHOLE_PIECE,
    Bytes,
    UsualEnd,
    broken_at,
    end_of_events,
    end_of_whole,
    has_choices,
    is_foreign,
    is_harmless,
    says_end,
)
from fd_router.routing.continuation.event_framer import EventFramer
from fd_router.routing.continuation.held_back import HeldBack

HANDED_ON: Final = "handed_on"
"""Why a journal keeps nothing of which all was handed on at its owner's wish."""

HOLD_LIMIT: Final = 64 * 1024
"""Bytes that are held back at most; an event that is longer is handed on in pieces, and its stream has no journal.

The first events may be as long as the journal: they may have the ids of a long prompt. What doesn't look like events
may not.
"""

STEP: Final = 3 * 1024
"""By so many bytes, and its pieces' objects, a journal takes of the budget."""

_STEPS: Final = tuple(range(0, 1024 * 1024, STEP))
"""The first steps, which all journals share: a number of its own would be one more thing to fetch with each piece."""

OBJECT: Final = 50
"""Bytes that a piece takes beside its own. To join pieces would save them, and touch each once more: it costs more
time than all else that is done for a piece, since it comes from main memory by then."""

_FIRST: Final = 4 * 1024
"""Bytes at most in front of an event that is still one of the first."""

RECENT: Final = 6
"""Reads of a body that are kept until its end: an error in a stream, or why it ended, is among the last of them."""

_FIRST_FEW: Final = 4
"""Pieces of a stream of which one tells how its events end, if the first one that should didn't end as usual."""

_NO_LIMIT: Final = 1 << 62


class _EachPiece:
    """What each piece of a stream touches, side by side: Python lays slots out class by class, and by name.

    Between two pieces of a stream there are those of all others, so that each cache line comes from far away.
    """

    __slots__ = ("_end", "_outlet", "_pieces", "_until", "_usual", "size")


class JournalOwner(Protocol):
    """Whose stream it is."""

    def on_stream_broken(self) -> None:
        """There is an event by which the instance gives up, or the stream ended, and none said that it would."""

    def on_bug(self, error: Exception) -> None:
        """Something on the way of the stream raised: end."""


class Journal(_EachPiece):
    """Hands a stream's bytes on and keeps them. ``limit``: the most that it may keep. ``usual``: shared with others.

    ``aligned``: whole events only are handed on, also when nothing is kept any more.
    ``owner`` hears of an event by which the instance gives up, or of the stream's end if no event said that it was near
    (``is_cut_off``); that and what follows are held back until it either takes the stream away, or has it handed on
    (``hand_on``).
    """

    __slots__ = (
        "_budget", "_framer", "_has_told", "_held", "_is_aligned", "_is_broken", "_is_kept", "_is_unlearnt",
        "_learnt", "_limit", "_owner", "_share", "_taken", "is_cut_off", "is_sound", "lost",
    )  # fmt: skip

    def __init__(
        self,
        budget: JournalBudget,
        limit: int,
        owner: JournalOwner,
        usual: UsualEnd,
        *,
        aligned: bool = False,
    ) -> None:
        self._budget = budget
        self._limit = limit
        self._owner: JournalOwner | None = owner  # until the stream is over
        self._has_told = False  # that it broke
        self._is_aligned = aligned
        self._is_broken = False
        self._pieces: MutableSequence[bytes] = []  # once all is lost, the last few
        self._until = 0  # so many bytes there may be …
        self._taken = 0  # … for which so many were taken of the budget
        self.size = 0
        """The bytes that came. Here and not in the request's record, whose members cost four times as much to set."""
        self._held: HeldBack | None = None
        self._share = usual
        self._usual = self._learnt = usual.end  # how a piece ends that needs no other look; when nothing is held back …
        self._end = usual.at  # … and where that is
        self._is_unlearnt = True
        self._is_kept = True  # as its instance frames it
        self._framer: EventFramer | None = None  # else, if that cuts events
        self._outlet: BodyOutlet = NOWHERE
        self.lost = ""
        """Why nothing is kept any more, a word; "" while all is."""
        self.is_cut_off = False
        self.is_sound = True
        """Whether no piece so far can have told of an error, as the dialects' ``end_flaw`` understands it."""

    def begin(self, first: bytes) -> bytes:
        """Begin with the first bytes of the body. Returns what of them is to be handed on, with the answer's head."""
        self.size = size = len(first)
        if size > self._until:
            self._grow(size)
        if first[self._end] == self._usual:
            self._pieces.append(first)
            return first
        return self._begin(first)

    def _begin(self, first: bytes) -> bytes:
        """Do the same with what isn't just one usual event."""
        end = end_of_whole(first)
        self.is_sound = end == len(first) and not self.lost and is_harmless(first)
        end = self._end_of_good(first, end)
        now = first[:end]
        if not end and is_foreign(first):
            self._is_aligned = False
            self.close("no_events")
            now = first
        else:
            self._hold(HeldBack(first[end:]))
        if now:
            self._pieces.append(now)
        return now

    def write_to(self, outlet: BodyOutlet) -> None:
        """Hand what comes from now on to ``outlet``."""
        self._outlet = outlet

    def begun(self) -> None:
        """The first bytes are on their way: if the instance gave up in the same ones, that is told now."""
        if self._is_broken:
            self._is_told()

    def on_data(self, data: bytes) -> None:
        """Take more of the stream."""
        self.size = size = self.size + len(data)
        if size > self._until:
            self._grow(size)
        if data[self._end] == self._usual:  # ``endswith`` costs half as much again
            self._pieces.append(data)
            self._outlet.write(data)
        else:
            self._look(data)

    def on_bug(self, error: Exception) -> None:
        """Something on the way of the stream raised: have its owner end."""
        (self._owner or NOBODY).on_bug(error)

    def framed(self) -> Sequence[bytes]:
        """Return all that was handed on, as it came: chunks of whole events."""
        return tuple(self._pieces)

    @property
    def held_back(self) -> bytes:
        """What is held back: the beginning of an event, or of what says that the answer is broken."""
        return bytes(self._held.content) if self._held is not None else b""

    def recent(self) -> bytes:
        """Return the last of what came."""
        return b"".join((*list(self._pieces)[-RECENT:], self.held_back))

    @property
    def last_sent(self) -> bytes:
        """The last of what was handed on, or of what was written behind it (``note``)."""
        return self._pieces[-1] if self._pieces else b""

    def note(self, data: bytes) -> None:
        """Note what somebody else wrote behind what was handed on."""
        self._pieces.append(data)

    def hand_on(self) -> None:
        """Hand on what is held back: the answer is whole, or nobody can go on with it. Nothing is kept from now on."""
        held = self._let_go()
        self.close(HANDED_ON)
        self._is_broken = False
        if self._framer is not None:
            held += self._framer.rest()
        if held:
            self._hand(held)

    def end(self, *, whole: bool) -> None:
        """The stream is over, ``whole`` or not: keep nothing, and nobody who could hear of it."""
        if not whole:
            self.close()
        elif self._held is not None or self._framer is not None:
            self.hand_on()
        else:  # nearly always
            if not self._share.is_said:
                self._share.is_said = says_end(self.recent())
            self._give_back()
        if self._framer is not None:
            self._framer.close()
        self._outlet, self._owner, self._framer = NOWHERE, None, None

    def close(self, why: str = "closed") -> None:
        """Let go of what is kept."""
        self.lost = self.lost or why
        self.is_sound = self._is_kept = False
        self._pieces = deque(self._pieces, RECENT)
        self._give_back()
        self._end, self._learnt = NOTHING, NEVER if self._is_aligned else b""  # as any piece ends
        self._hold(self._held)

    # steps

    def _give_back(self) -> None:
        """Take no more of the budget, however much comes."""
        if self._until != _NO_LIMIT:
            self._budget.give_back(self._taken)
            self._until = _NO_LIMIT

    def _look(self, data: bytes) -> None:
        """Take a piece that isn't just one usual event."""
        if self._held is None and self._is_kept and data.endswith(WHOLE_PIECE) and is_harmless(data):
            if self._is_unlearnt and len(self._pieces) < _FIRST_FEW and data.endswith(WHOLE):
                self._learn(data)
            self._hand(data)
            return
        self.is_sound = False  # as far as is known
        if self._framer is not None:
            self._frame_anew(self._framer, data)
        elif self.lost and not self._is_aligned:
            held = self._let_go()  # of an event that was cut when the journal was given up
            self._hold(None)
            self._hand(held + data)
        else:
            self._look_at_all(data)

    def _look_at_all(self, data: bytes) -> None:
        """Hand on what of the bytes behind the last whole event is whole, and hold back the rest."""
        if (held := self._held) is None:
            held = HeldBack(data)
        else:
            held.add(data)
        end = 0 if self._is_broken else held.end_of_whole()
        end = self._end_of_good(held.content, end)
        whole = held.take(end) if end else b""
        self._hold(held)
        if whole:
            self._hand(whole)
        self._look_at_held()

    def _end_of_good(self, data: Bytes, end: int) -> int:
        """Return where in whole events, up to ``end``, those end in front of what says that the answer is broken."""
        if not end or self.lost:
            return end
        if (broken := broken_at(data, end)) >= 0:
            end, self._is_broken = end_of_events(data, broken), True
        elif data.endswith(LAST_CHUNK) and end == len(data) and self._is_cut_off(data):
            end, self._is_broken = end_of_events(data), True
        return end

    def _is_cut_off(self, last: Bytes) -> bool:
        """Tell whether a stream that is over with ``last`` isn't whole: it doesn't say so, as others do.

        An engine that says so of no stream at all may do without.
        """
        if says_end(b"".join((self.recent(), last))):
            self._share.is_said = True
        elif self._share.is_said:
            events = b"".join((*self.framed(), last))
            self.is_cut_off = has_choices(events) and not says_end(events)
        return self.is_cut_off

    def _look_at_held(self) -> None:
        """Hold no more back than is good."""
        if (held := self._held) is None:
            return
        if len(held) > HOLD_LIMIT and not self._may_be_long(held.content):
            self._give_up("event_too_long")
        elif len(held) == self.size and is_foreign(held.content):
            self._is_aligned = False
            self._give_up("no_events")
        elif self._is_broken:
            self._is_told()
        elif held.cuts_events():
            self._is_kept, self._framer = False, EventFramer()
            content = self._let_go()
            self._hold(None)
            self._frame_anew(self._framer, content)

    def _frame_anew(self, framer: EventFramer, data: bytes) -> None:
        """Take a piece of a stream whose chunks end within events: else all of it might be held back."""
        whole = framer.feed(data)
        if self.lost and not self._is_aligned:
            whole += framer.rest()
        is_over = whole.endswith(LAST_CHUNK)
        if whole and not self.lost and (broken_at(whole, len(whole)) >= 0 or (is_over and self._is_cut_off(whole))):
            self._is_broken, self._held = True, HeldBack(whole)
            self._is_told()
        elif whole:
            self._hand(whole)
        if len(framer.pending) > HOLD_LIMIT and not self._may_be_long(framer.pending):
            self.close("event_too_long")
            self._hand(framer.rest())

    def _give_up(self, why: str) -> None:
        """Hand on what is held back, and keep nothing any more."""
        held = self._let_go()
        self.close(why)
        self._hand(held)

    def _may_be_long(self, held: Bytes) -> bool:
        """Whether more than usual may be held back: a first event, with a long prompt's ids."""
        if self.lost or self.size - len(held) > _FIRST or len(held) > self._limit:
            return False
        before = b"".join(self.framed())
        has_begun = before.count(FINISH) > before.count(ROLE)  # there was an event of a token
        return not has_begun and LOOK_OF_EVENTS.match(held) is not None

    def _is_told(self) -> None:
        if (owner := self._owner) is not None and not self._has_told:
            self._has_told = True
            owner.on_stream_broken()

    def _hand(self, whole: bytes) -> None:
        """Keep whole events, and hand them on."""
        self._pieces.append(whole)
        self._outlet.write(whole)

    def _hold(self, held: HeldBack | None) -> None:
        """Hold back the beginning of an event, if there is something of one. Behind it, no piece is a usual one."""
        self._held = held = held or None
        self._usual = self._learnt if held is None and self._framer is None else NEVER

    def _let_go(self) -> bytes:
        """Return what is held back, and hold it no more."""
        held, self._held = self._held, None
        return held.take(len(held)) if held is not None else b""

    def _learn(self, whole: bytes) -> None:
        """Learn how the stream's events end, from the first one that isn't the role's."""
        if ROLE not in whole:
            self._is_unlearnt = False
            usual = UNFINISHED.search(whole, max(0, len(whole) - 96))
            if usual is not None:
                share = self._share
                share.learn(usual[0])
                self._usual = self._learnt = share.end
                self._end = share.at

    def _grow(self, size: int) -> None:
        """Take more of the budget, for ``size`` bytes; without it, nothing more is kept."""
        steps = size // STEP + 1
        until = _STEPS[steps] if steps < len(_STEPS) else steps * STEP
        taken = until + OBJECT * len(self._pieces)
        if until > self._limit:
            self.close("too_long")
        elif not self._budget.take(taken - self._taken):
            self.close("no_budget")
        else:
            self._until, self._taken = until, taken

    def __repr__(self) -> str:
        state = self.lost or f"{sum(map(len, self.framed()))} bytes kept, {self._held!r}"
        return f"<Journal {state}>"
