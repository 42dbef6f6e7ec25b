"""The router's log as one JSON object a line, for collectors that would rather not parse text."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from fd_router.telemetry.access import access_fields, access_line
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.record import RequestRecord

_TAG = re.compile(r"\[(\w+):([^\]]*)\]")


class JsonLog(RouterLog):
    """``{"ts": …, "level": …, "message": …}``, the context tags and, for a request line, its fields as further keys."""

    __slots__ = ("_offset",)

    def info(self, message: str, tags: str = "") -> None:
        """Log what an operator or a script follows."""
        if self.info_on:
            self._add(self._line("INFO", message, tags))

    def debug(self, message: str, tags: str = "") -> None:
        """Log what helps to find a fault."""
        if self.debug_on:
            self._add(self._line("DEBUG", message, tags))

    def info_all(self, messages: Sequence[str], tags: str = "") -> None:
        """Log several lines of one request."""
        for message in messages:
            self.info(message, tags)

    def finished(self, record: RequestRecord) -> None:
        """Log a finished request, at info, after what was still to be said of it."""
        if self.info_on:
            self.info_all(record.notes, record.tags)
            self._add(self._object("INFO", access_line(record), record.tags, access_fields(record)))

    def _add(self, line: str) -> None:
        if self._idle:
            self._wake()
        self._append(line)

    def _set_second(self, now: int) -> None:
        super()._set_second(now)
        local = time.localtime(now)
        offset = time.strftime("%z", local)
        self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local)
        self._offset = f"{offset[:3]}:{offset[3:5]}"

    def _line(self, level: str, message: str, tags: str) -> str:
        return self._object(level, message, tags, {})

    def _object(self, level: str, message: str, tags: str, fields: dict[str, Any]) -> str:
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._set_second(second)
        entry = {
            "ts": f"{self._stamp}.{int((now - second) * 1000):03d}{self._offset}",
            "level": level.lower(),
            **dict(_TAG.findall(tags)),
            "message": message.encode("utf-8", "backslashreplace").decode(),
            **fields,
        }
        # JSON allows DEL as it is; a line of a log doesn't.
        return "\n" + msgspec.json.encode(entry).decode().replace("\x7f", "\\u007f")
