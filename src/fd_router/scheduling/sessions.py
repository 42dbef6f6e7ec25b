"""Which instance served a session last: whether its cache was met, as FastDeploy's dashboards count it."""

from __future__ import annotations

from collections import OrderedDict


class Sessions:
    """The last instance of each session; the ``limit`` sessions seen last are kept."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._served_by: OrderedDict[str, str] = OrderedDict()

    def visit(self, session_id: str, url: str) -> bool:
        """Note that ``url`` serves the session now. Returns whether it also did the last time."""
        served_by = self._served_by
        is_hit = served_by.get(session_id) == url
        served_by[session_id] = url
        served_by.move_to_end(session_id)
        if len(served_by) > self._limit:
            served_by.popitem(last=False)
        return is_hit

    def __len__(self) -> int:
        return len(self._served_by)
