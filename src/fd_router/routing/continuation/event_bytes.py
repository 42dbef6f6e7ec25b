"""Where the events of a stream end, and what the last of them says: by a look at the bytes, as they are framed."""

from __future__ import annotations

import re
from typing import Final

from fd_router.http.chunks import LAST_CHUNK

ENDS: Final = (b"\n\n\r\n", b"\r\n\r\n\r\n")
"""How a chunk ends whose last event is whole. No event has an empty line in it."""

_LINE_ENDS: Final = (b"\r", b"\n2")
"""What stands before that where the chunk is the end of a line only: of an event's last one, or of another one."""

WHOLE: Final = ENDS[0]

WHOLE_PIECE: Final = tuple(last + WHOLE + rest for rest in (b"", LAST_CHUNK) for last in (b"}", b"]"))
"""How a piece ends that needn't be cut: behind the last chunk comes nothing that another instance could send."""

_WHOLE_ONES: Final = (*WHOLE_PIECE, *(last + ENDS[1] for last in (b"}", b"]")))

LOOK_OF_EVENTS: Final = re.compile(
    rb"(?:\r\n)?(?:[0-9A-Fa-f]+(?:;[^\r\n]*)?\r\n)?(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:"
)
"""How a stream of events begins, behind the length of a chunk; what is compressed, and JSON a line each, doesn't."""

_LONGEST_FIELD: Final = len(b"event:")

_SUSPECT: Final = (b'"abort"', b"error", b'"pd_reschedule"', b'"recover_stop"')
"""Without one of these there is no such event, nor one of the name ``error``."""

FINISH: Final = b'"finish_reason"'
"""FastDeploy leaves it out of the events of an answer that goes on: then two searches do."""

ROLE: Final = b'"role"'

_BROKEN: Final = re.compile(
    rb'(?m:^event:\s*error\b)|data:\s*\{\s*"(?:error"\s*:\s*[^n\s]|object"\s*:\s*"error")'
    rb'|"finish_reason"\s*:\s*"(?:abort|error|pd_reschedule|recover_stop)"'
)
"""An event by which an instance ends an answer that isn't whole. In a text, quotes are escaped."""

UNFINISHED: Final = re.compile(rb'"finish_reason": ?null[^0-9]{0,64}\Z')
"""How an event of a token ends, where nothing that differs from token to token stands behind it."""

NEVER: Final = b"\0 no stream ends so"
NOTHING: Final = slice(0)


class UsualEnd:
    """How pieces of streams end that need no other look: as an event of a token that was seen last, of whatever stream.

    Streams of one fleet mostly end their events alike: with the first one that differs it is learnt anew.
    """

    __slots__ = ("at", "end")

    def __init__(self) -> None:
        self.end = NEVER
        self.at = NOTHING  # where in a piece that is

    def learn(self, end: bytes) -> None:
        """Pieces end with ``end``."""
        self.end, self.at = end, slice(-len(end), None)

    def __repr__(self) -> str:
        return f"<UsualEnd {self.end!r}>"


def end_of_whole(data: bytes, after: int = 0) -> int:
    """Return where in ``data``, which begins behind a whole event, the last whole one ends, or the stream; 0: nowhere.

    ``after``: none ends before that.
    """
    if data.endswith(_WHOLE_ONES):
        return len(data)
    end = end_of_events(data, after=after)
    return len(data) if data[end:] == LAST_CHUNK else end


def end_of_events(data: bytes, before: int | None = None, *, after: int = 0) -> int:
    """Return where the last whole event of ``data``, or of those before ``before``, ends with its chunk; 0: nowhere."""
    start = max(0, after - len(ENDS[-1]))
    return max(_end_with(data, end, line_end, start, before) for end, line_end in zip(ENDS, _LINE_ENDS, strict=True))


def _end_with(data: bytes, end: bytes, line_end: bytes, start: int, before: int | None) -> int:
    at = data.rfind(end, start, before)
    return 0 if at < 0 or data.endswith(line_end, 0, at) else at + len(end)


def is_foreign(beginning: bytes) -> bool:
    """Return whether a body in chunks that begins so is no stream of events, whatever comes."""
    content = beginning.partition(b"\r\n")[2]
    return len(content) >= _LONGEST_FIELD and LOOK_OF_EVENTS.match(beginning) is None


def is_harmless(data: bytes) -> bool:
    """Return whether no event in ``data`` can say that the answer is broken."""
    abort, error, reschedule, recover = _SUSPECT
    parts = data.partition  # ``in`` costs thrice as much
    if parts(error)[1]:
        return False
    return not parts(FINISH)[1] or not (parts(abort)[1] or parts(reschedule)[1] or parts(recover)[1])


def broken_at(data: bytes, end: int) -> int:
    """Return where an event begins that says that the answer is broken, -1: there is none."""
    if is_harmless(data):
        return -1
    found = _BROKEN.search(data, 0, end)
    return found.start() if found is not None else -1
