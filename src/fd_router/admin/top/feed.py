"""The dashboard's events, read by a program: one connection, which is made anew when it breaks off."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from fd_router.admin.router_client import AdminError, RouterClient, RouterUnreachableError

PATH: Final = "/dashboard/events"

AGAIN_SECS: Final = 2.0
"""Between an end and the next try."""

Event = tuple[str, Any]
"""Its name, and its data. ``lost`` is one of this module's own: why nothing comes any more, until something does."""


def events_of(lines: Iterable[bytes]) -> Iterator[Event]:
    """Read server-sent events whose data is one line of JSON."""
    name = ""
    for line in lines:
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        if field == b"event":
            name = value.decode("ascii", "replace")
        elif field == b"data" and name:
            yield name, msgspec.json.decode(value)
            name = ""


class FeedReader:
    """Follows the router that ``client`` asks, until it is stopped."""

    def __init__(self, client: RouterClient, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep
        self._is_stopped = False

    def stop(self) -> None:
        """End with the next event, or with the next try."""
        self._is_stopped = True

    def events(self) -> Iterator[Event]:
        """Give the events as they come. Raises AdminError when the router refuses to send any."""
        while not self._is_stopped:
            try:
                yield from self._follow()
                why = "the router ended the connection"
            except (OSError, http.client.HTTPException, msgspec.DecodeError, RouterUnreachableError) as error:
                why = str(error) or type(error).__name__
            if not self._is_stopped:
                yield "lost", why
                self._sleep(AGAIN_SECS)

    def _follow(self) -> Iterator[Event]:
        with self._client.follow(PATH) as answer:
            if answer.status == 404:
                raise AdminError(
                    f"{self._client.address.url} has no dashboard: server.dashboard is off there, or its own endpoints "
                    "are at another port (access.control-port)"
                )
            for event in events_of(answer):
                if self._is_stopped:
                    return
                yield event
