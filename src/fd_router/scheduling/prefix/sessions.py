"""Sessions: which instance served a session last: whether its cache was met, as FastDeploy's dashboards count it."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

LONGEST_ID = 64
"""Characters of an id that is kept as it came. Ids are the clients' to choose: one may be as long as a body."""


class Sessions:
    """The last instance of each session; the ``limit`` sessions seen last are kept, in some 250 bytes each."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._served_by: OrderedDict[str, str] = OrderedDict()

    def visit(self, session_id: str, url: str) -> bool:
        """Note that ``url`` serves the session now. Returns whether it also did the last time."""
        if len(session_id) > LONGEST_ID:
            session_id = blake2b(session_id.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
        served_by = self._served_by
        is_hit = served_by.get(session_id) == url
        served_by[session_id] = url
        served_by.move_to_end(session_id)
        if len(served_by) > self._limit:
            served_by.popitem(last=False)
        return is_hit

    def __len__(self) -> int:
        return len(self._served_by)
