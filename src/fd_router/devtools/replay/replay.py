"""Sends a trace's requests to a router over HTTP when they are due, whether or not earlier ones are done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fd_router.devtools.replay.call import ReplayCall
from fd_router.devtools.replay.connections import Connections
from fd_router.devtools.report.outcomes import Outcome, Result
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.devtools.traces.trace_text import text_of
from fd_router.errors import FdRouterError

CHAT_PATH = "/v1/chat/completions"
_WATCH_SECS = 0.25


class ReplayError(FdRouterError):
    """A replay that can't begin; the message says why."""


class Target(msgspec.Struct, frozen=True):
    """Where the requests go, and what their bodies carry beside the prompt."""

    url: str
    path: str = CHAT_PATH
    model: str = "default"
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}  # further keys of every body
    for_mocks: bool = False  # the bodies tell mock instances the trace's block ids, and the answers begin with names


class Replay:
    """One open loop. ``late_secs`` is the most that a request was sent after its time: this process was too slow."""

    def __init__(self, requests: Sequence[TraceRequest], target: Target, *, timeout_secs: float = 600.0) -> None:
        self._requests = requests
        self._target = target
        self._timeout = timeout_secs
        self._connections = Connections(*_address(target.url), _head(target))
        self._live: dict[ReplayCall, TraceRequest] = {}
        self._outcomes: list[Outcome] = []
        self._stopped = asyncio.Event()
        self._began = 0.0
        self.late_secs = 0.0

    async def run(self, name: str, on_progress: Callable[[int], None] = lambda _: None) -> Result:
        """Send all, wait for all. ``on_progress`` hears how many have ended. Raises ReplayError if nobody listens."""
        await self._knock()
        self._began = time.monotonic()
        watching = asyncio.create_task(self._watch(on_progress))
        try:
            await self._send_all()
            while self._live and not self._stopped.is_set():
                await self._pause(_WATCH_SECS)
        finally:
            watching.cancel()
            self._connections.close()
        on_progress(len(self._outcomes))
        outcomes = sorted(self._outcomes, key=lambda outcome: outcome.at)
        return Result(name, outcomes, 0, time.monotonic() - self._began)

    def stop(self) -> None:
        """Send nothing more and wait for nothing more: ``run`` returns with what there is."""
        self._stopped.set()

    async def _knock(self) -> None:
        host, port = _address(self._target.url)
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 5.0)
        except OSError as error:
            raise ReplayError(
                f"{self._target.url}: {error.strerror or 'no connection'}; start the router first, or name another "
                "one with --router"
            ) from None
        writer.close()

    async def _send_all(self) -> None:
        for request in self._requests:
            while (wait := self._began + request.at - time.monotonic()) > 0:
                await self._pause(wait)
                if self._stopped.is_set():
                    return
            self._send(request)
            if len(self._live) % 8 == 0:  # a burst must not keep answers from being read
                await asyncio.sleep(0)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return

    def _send(self, request: TraceRequest) -> None:
        due = self._began + request.at
        call = ReplayCall(body_of(request, self._target), due, time.monotonic, self._on_end)
        self._live[call] = request
        self._connections.send(call)
        self.late_secs = max(self.late_secs, time.monotonic() - due)

    def _on_end(self, call: ReplayCall) -> None:
        request = self._live.pop(call)
        self._outcomes.append(
            Outcome(
                at=request.at,
                input_tokens=request.input_tokens,
                instance=call.word if self._target.for_mocks else call.instance,
                ttft=call.first_token_at - call.due,
                seconds=call.ended_at - call.due,
                cached_tokens=call.cached_tokens,
                output_tokens=call.output_tokens,
                session=request.session,
                error=call.error,
            )
        )

    async def _watch(self, on_progress: Callable[[int], None]) -> None:
        """Tell how far it is, and give up on what takes too long."""
        while True:
            await asyncio.sleep(_WATCH_SECS)
            oldest = time.monotonic() - self._timeout
            for call in [call for call in self._live if call.due < oldest]:
                self._connections.give_up(call, "timeout")
            on_progress(len(self._outcomes))


def body_of(request: TraceRequest, target: Target) -> bytes:
    """Return the JSON body of a request: a stream with usage at its end."""
    text = text_of(request)
    body: dict[str, Any] = {"model": target.model}
    if target.path.endswith("chat/completions"):
        body["messages"] = [{"role": "user", "content": text}]
    else:
        body["prompt"] = text
    body |= {"max_tokens": request.output_tokens, "stream": True, "stream_options": {"include_usage": True}}
    if target.for_mocks:
        body |= {"mock_hash_ids": request.hash_ids, "mock_input_length": request.input_tokens}
    return msgspec.json.encode({**body, **target.extra})


def _address(url: str) -> tuple[str, int]:
    """Raises ReplayError unless ``url`` is ``http://HOST:PORT``."""
    parts = urlsplit(url)
    try:
        port = 80 if parts.port is None else parts.port
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port or parts.username or parts.path.strip("/"):
        raise ReplayError(f"{url!r} is not an address like http://127.0.0.1:30000 (http only, no path)")
    return parts.hostname, port


def _head(target: Target) -> bytes:
    lines = [f"POST {target.path} HTTP/1.1", f"host: {urlsplit(target.url).netloc}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in target.headers.items()]
    return "\r\n".join([*lines, "content-length: "]).encode("latin-1")
