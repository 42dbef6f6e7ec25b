"""Sends a trace's requests to a router over HTTP when they are due, whether or not earlier ones are done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fd_router.devtools.replay.call import ReplayCall
from fd_router.devtools.report.outcomes import Outcome, Result
from fd_router.devtools.router_address import RouterAddress
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.devtools.traces.trace_text import text_of
from fd_router.errors import FdRouterError
from fd_router.http.client import HttpClient
from fd_router.http.client_request import ClientRequest, request_head

CHAT_PATH = "/v1/chat/completions"
_WATCH_SECS = 0.25


class ReplayError(FdRouterError):
    """A replay that can't begin; the message says why."""


class Target(msgspec.Struct, frozen=True):
    """Where the requests go, and what their bodies carry beside the prompt."""

    router: RouterAddress
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
        self._head = _head(target)
        self._client: HttpClient
        self._live: dict[ReplayCall, TraceRequest] = {}
        self._sent: dict[ReplayCall, ClientRequest] = {}
        self._outcomes: list[Outcome] = []
        self._stopped = asyncio.Event()
        self._began = 0.0
        self.late_secs = 0.0

    async def run(self, name: str, on_progress: Callable[[int], None] = lambda _: None) -> Result:
        """Send all, wait for all. ``on_progress`` hears how many have ended. Raises ReplayError if nobody listens."""
        await self._check_reachable()
        self._client = HttpClient(connect_secs=self._timeout)
        self._began = time.monotonic()
        watching = asyncio.create_task(self._watch(on_progress))
        try:
            await self._send_all()
            while self._live and not self._stopped.is_set():
                await self._pause(_WATCH_SECS)
        finally:
            watching.cancel()
            for call in list(self._live):
                self._give_up(call, "interrupted")
            self._client.close()
        on_progress(len(self._outcomes))
        outcomes = sorted(self._outcomes, key=lambda outcome: outcome.at)
        return Result(name, outcomes, 0, time.monotonic() - self._began)

    def stop(self) -> None:
        """Send nothing more and wait for nothing more: ``run`` returns with what there is."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped before its end."""
        return self._stopped.is_set()

    async def _check_reachable(self) -> None:
        router = self._target.router
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(router.origin.host, router.origin.port), 5.0)
        except OSError as error:
            raise ReplayError(
                f"{router.url}: {error.strerror or 'no connection'}; start the router first, or name another one with "
                "--router"
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
        call = ReplayCall(due, time.monotonic, self._on_end)
        self._live[call] = request
        body = body_of(request, self._target)
        message = b"%bcontent-length: %d\r\n\r\n%b" % (self._head, len(body), body)
        self._sent[call] = self._client.send(self._target.router.origin, message, call)
        self.late_secs = max(self.late_secs, time.monotonic() - due)

    def _on_end(self, call: ReplayCall) -> None:
        request = self._live.pop(call)
        self._sent.pop(call, None)
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
                self._give_up(call, "timeout")
            on_progress(len(self._outcomes))

    def _give_up(self, call: ReplayCall, reason: str) -> None:
        if (sent := self._sent.get(call)) is not None:
            sent.cancel()
        call.fail(reason)


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


def _head(target: Target) -> bytes:
    headers = {"authorization": f"Bearer {target.router.token}"} if target.router.token else {}
    return request_head("POST", target.path, target.router.origin.key.encode("ascii"), {**headers, **target.headers})
