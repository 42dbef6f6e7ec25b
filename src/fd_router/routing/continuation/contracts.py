"""What a stream that goes on, the instance or pair where it does, and its client's request need of each other."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from fd_router.errors import UpstreamError
from fd_router.http.heads import ResponseHead
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.request_queue import Queued, QueueTicket
from fd_router.telemetry.record import RequestRecord
from fd_router.tokenization.text_count import TextCount


class Move(Enum):
    """What became of the wish that a stream leave its instance before that breaks off."""

    MOVED = "moved"
    LATER = "later"  # no other instance has room for it
    STAYS = "stays"  # no other instance can go on with it
    ENDS = "ends"  # it isn't there, hasn't begun, or will be over at once


class Leg(Protocol):
    """The instance, or the pair, that a stream goes on at."""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Where it goes on; the one whose answer it is last."""

    @property
    def engine_id(self) -> str:
        """The id by which they know it, "" if it is the client's."""

    @property
    def delivered_at(self) -> float:
        """When bytes of its answer came last, in monotonic seconds; 0.0: none is read now."""

    def start(self) -> None:
        """Send the request."""

    def cancel(self) -> None:
        """Close what is open, and give the counts back."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read on."""


class LegListener(Protocol):
    """The stream, as the leg that goes on with it sees it."""

    is_aborted: bool
    """Whether its client, or an admin, had it aborted."""

    def on_leg_begun(self, leg: Leg, head: ResponseHead) -> None:
        """The answer that goes on has begun."""

    def on_leg_data(self, leg: Leg, data: bytes) -> None:
        """Take more of it."""

    def on_leg_complete(self, leg: Leg) -> None:
        """It is whole."""

    def on_leg_failed(self, leg: Leg, instance: Instance, error: UpstreamError) -> None:
        """The instance failed, in the middle of it or before."""

    def on_bug(self, error: Exception) -> None:
        """A bug was met on the way of a leg."""


class Owner(Protocol):
    """The client's request."""

    record: RequestRecord

    def choose_leg(
        self, stream: LegListener, completion: Completion, body: bytes, excluded: Sequence[str], number: int
    ) -> Leg:
        """Choose where the stream goes on. Raises NoInstanceError; then nothing has changed."""

    def count_text(self, instance: Instance, model: str, text: str) -> TextCount | None:
        """Have the instance's tokenizer count a text; None: its engine has none that does."""

    def is_held_up(self, why: str) -> bool:
        """Return whether a leg that failed so wasn't read, since the client takes nothing."""

    def leave_instance(self) -> None:
        """Give back what is still held at the instance that broke off."""

    def hope_secs(self) -> float:
        """Return how long a probe may take that may bring an instance back; 0: none."""

    def wait_for_room(self, waiting: Queued, hope_secs: float) -> QueueTicket | None:
        """Queue, or wait for a probe; None: requests don't wait here."""

    def report(self, instance: Instance, error: UpstreamError) -> None:
        """Report an instance that failed the continuation."""

    def on_stream_events(self, events: bytes) -> None:
        """Send more events."""

    def on_stream_end(self) -> None:
        """The stream has its last event."""

    def on_stream_lost(self, why: str) -> None:
        """The stream can't go on after all: let the client see it."""

    def on_bug(self, error: Exception) -> None:
        """A bug was met on the way."""

    def note(self, line: str) -> None:
        """Tell the log."""
