"""Clients of a fleet in a known order, whatever the machine does: each begins when the one before has its place."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import httpx

from tests.support.fleet import Fleet, chat, eventually

PATIENT = {"health-failure-threshold": 1000}
"""Of the section ``manager``: an instance that is held stays healthy."""

JOIN_SECS = 40


class Clients:
    """Sends requests, each in a thread. ``ended`` has their names and answers in the order in which they ended."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.ended: list[tuple[str, httpx.Response]] = []
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Hold the instance up: what has its place there, or in the queue, keeps it until the block ends."""
        (mock,) = self.fleet.mocks
        mock.pause()
        try:
            yield
        finally:
            mock.resume()

    @property
    def running(self) -> float:
        """Requests that the router counts at the instance."""
        return self.fleet.running(self.fleet.mocks[0])

    @property
    def queued(self) -> float:
        """Requests that wait in the router."""
        return self.fleet.metric("fd_router_queued_requests")

    def send(self, name: str, tokens: int = 1, **headers: str) -> None:
        """Send a request called ``name``, and wait until it runs or waits. The instance must be held."""
        before = self.running + self.queued
        thread = threading.Thread(target=self._send, args=(name, tokens, headers), daemon=True)
        self._threads.append(thread)
        thread.start()
        eventually(lambda: self.running + self.queued == before + 1)

    def _send(self, name: str, tokens: int, headers: dict[str, str]) -> None:
        self.ended.append((name, self.send_and_wait(name, tokens, **headers)))

    def send_and_wait(self, name: str, tokens: int = 1, **headers: str) -> httpx.Response:
        """Send a request called ``name`` and return its answer."""
        return httpx.post(
            f"{self.fleet.url}/v1/chat/completions",
            json=chat(max_tokens=tokens),
            headers={"x-name": name, **headers},
            timeout=JOIN_SECS,
        )

    def join(self) -> dict[str, int]:
        """Wait for all; return the status that each got."""
        for thread in self._threads:
            thread.join(JOIN_SECS)
            assert not thread.is_alive()
        return {name: answer.status_code for name, answer in self.ended}

    def served(self) -> list[str]:
        """Return the names in the order in which the instance got the requests."""
        return [dict(each["headers"])["x-name"] for each in self.fleet.mocks[0].completions()]
