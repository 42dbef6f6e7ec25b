"""The two halves of a disaggregated request: what each listens for, until the pair has decided.

A leg owns its decision and gives it back: prefill's as soon as its work is done, decode's with the request.
"""

from __future__ import annotations

from typing import Protocol

from fd_router.engines.fastdeploy import begins_with_error, error_message, is_rescheduled
from fd_router.errors import Retry, UpstreamError
from fd_router.instances.instance import Instance
from fd_router.proxy.heads import ResponseHead
from fd_router.proxy.leg import Leg
from fd_router.proxy.pool import InstancePool
from fd_router.scheduling.contract import Decision

MAX_GATHERED = 8 * 1024 * 1024
"""Bytes of an answer that are held back to look at its end; a longer one goes to the client unseen."""


class Pair(Protocol):
    """The exchange, as its legs tell it what happens."""

    def on_leg_failed(self, leg: PairLeg, error: UpstreamError) -> None:
        """The instance failed; whether that matters is the pair's to say."""

    def on_leg_refused(self, leg: PairLeg, head: ResponseHead, body: bytes) -> None:
        """The instance answered 4xx, which is the client's to read."""

    def on_prefill_done(self, leg: PrefillLeg) -> None:
        """The prefill instance has done its work."""

    def on_decode_begun(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """The answer's first bytes are there, and they aren't an error."""

    def on_decode_data(self, data: bytes) -> None:
        """More of the answer."""

    def on_decode_whole(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """The whole answer to a request that isn't streamed is there, in one piece."""

    def on_decode_complete(self, leg: DecodeLeg) -> None:
        """The answer that had begun is complete."""


class PairLeg:
    """One leg: a ``Listener`` of its connection that holds back bytes until it is known what they mean."""

    __slots__ = ("_gathered", "_head", "_leg", "_pair", "_size", "_stream", "decision", "is_over", "role")

    def __init__(self, role: str, pair: Pair, decision: Decision[Instance], *, stream: bool) -> None:
        self.role = role
        self.decision = decision
        self.is_over = False  # its answer came to an end, or it was cancelled
        self._pair = pair
        self._stream = stream
        self._head: ResponseHead | None = None
        self._gathered: list[bytes] = []
        self._size = 0
        self._leg: Leg | None = None

    @property
    def instance(self) -> Instance:
        """The instance that was chosen."""
        return self.decision.instance

    def start(self, pool: InstancePool, head: bytes, body: bytes, time_limit: float = 0.0) -> None:
        """Send the request."""
        self._leg = Leg(pool, self, head, body, time_limit)
        self._leg.start()

    def cancel(self) -> None:
        """Close the connection at once."""
        self.is_over = True
        if self._leg is not None:
            leg, self._leg = self._leg, None
            leg.cancel()

    def pause(self) -> None:
        """Stop reading."""
        if self._leg is not None:
            self._leg.pause()

    def resume(self) -> None:
        """Read on."""
        if self._leg is not None:
            self._leg.resume()

    # what the connection calls

    def on_head(self, head: ResponseHead, body: bytes) -> None:
        """Keep the head until it is known what follows."""
        self._head = head
        if body:
            self.on_data(body)

    def on_data(self, data: bytes) -> None:
        """Take more of the body."""
        head = self._head
        if head is None:
            return
        if head.status >= 400:
            self._gather(data)
        else:
            self._on_good_data(head, data)

    def on_complete(self) -> None:
        """Say what the whole answer means."""
        self.is_over, self._leg = True, None
        head = self._head
        if head is None:
            return
        body = b"".join(self._gathered)
        if head.status >= 400:
            self._on_bad_end(head, body)
        else:
            self._on_good_end(head, body)

    def on_failed(self, error: UpstreamError, *, stale: bool) -> None:
        """Replace a kept connection that turned out dead, or say that the instance failed."""
        if stale and self._leg is not None:
            self._leg.replace()
            return
        self.is_over, self._leg = True, None
        self._pair.on_leg_failed(self, error)

    def _on_bad_end(self, head: ResponseHead, body: bytes) -> None:
        if head.status >= 500:
            self._fail(f"status {head.status}", body, head.status)
        else:
            self._pair.on_leg_refused(self, head, body)

    # what the legs differ in

    def _on_good_data(self, head: ResponseHead, data: bytes) -> None:
        raise NotImplementedError

    def _on_good_end(self, head: ResponseHead, body: bytes) -> None:
        raise NotImplementedError

    # steps

    def _gather(self, data: bytes) -> None:
        if self._size <= MAX_GATHERED:
            self._gathered.append(data)
            self._size += len(data)

    def _fail(self, what: str, body: bytes, status: int) -> None:
        """The instance answered, but with an error of its own."""
        message = error_message(body)
        detail = f"{what}: {message}" if message else what
        self.cancel()
        error = UpstreamError("error_answer", detail, instance=self.instance.url, retry=Retry.NEVER, status=status)
        self._pair.on_leg_failed(self, error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.instance.url}{' over' if self.is_over else ''}>"


class PrefillLeg(PairLeg):
    """Its answer is drained. A stream's first byte, or the end of another answer, tells that the prefill is done."""

    __slots__ = ("_has_begun",)

    def __init__(self, pair: Pair, decision: Decision[Instance], *, stream: bool) -> None:
        super().__init__("prefill", pair, decision, stream=stream)
        self._has_begun = False

    def _on_good_data(self, head: ResponseHead, data: bytes) -> None:  # noqa: ARG002
        if self._has_begun:
            return
        self._has_begun = True
        if begins_with_error(data):
            self._fail("an error in the answer", data, 502)
        elif self._stream:
            self._pair.on_prefill_done(self)

    def _on_good_end(self, head: ResponseHead, body: bytes) -> None:  # noqa: ARG002
        if not (self._stream and self._has_begun):  # else it was told at the first byte
            self._pair.on_prefill_done(self)


class DecodeLeg(PairLeg):
    """Its answer is the client's: a stream's from the first bytes on, another one's when it is whole."""

    __slots__ = ("_has_begun",)

    def __init__(self, pair: Pair, decision: Decision[Instance], *, stream: bool) -> None:
        super().__init__("decode", pair, decision, stream=stream)
        self._has_begun = False

    def on_data(self, data: bytes) -> None:
        """Take more of the body."""
        if self._has_begun:
            self._pair.on_decode_data(data)
        else:
            super().on_data(data)

    def _on_good_data(self, head: ResponseHead, data: bytes) -> None:
        if not self._gathered and begins_with_error(data) and b"PD Error" not in data:
            self._fail("an error in the answer", data, 502)
            return
        if self._stream or self._size + len(data) > MAX_GATHERED:
            self._has_begun = True
            held, self._gathered = b"".join(self._gathered), []
            self._pair.on_decode_begun(self, head, held + data)
        else:
            self._gather(data)

    def _on_bad_end(self, head: ResponseHead, body: bytes) -> None:
        if head.status >= 500 and is_rescheduled(body):
            self._pair.on_decode_whole(self, head, body)
        else:
            super()._on_bad_end(head, body)

    def _on_good_end(self, head: ResponseHead, body: bytes) -> None:
        if self._has_begun:
            self._pair.on_decode_complete(self)
        else:
            self._pair.on_decode_whole(self, head, body)
