"""KV events as vLLM publishes them: what a mock instance's prefix cache stores and evicts, over ZeroMQ.

PUB at one port, a ROUTER that replays the last batches at the next one. A share of them can be lost on the way, and the
engine can begin anew (``kv_drop`` and ``kv_restart`` among the faults).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from fd_router.config.host_names import authority
from fd_router.devtools.engine_model.prefix_cache import PrefixCache
from fd_router.devtools.mock.options import MockOptions
from fd_router.engines.kv_events import AllBlocksCleared, BlockHash, BlockRemoved, BlockStored, KvEvent

BUFFERED: Final = 10_000
"""Batches that are kept to be replayed, as vLLM does."""

LEARNT: Final = 200_000
"""Blocks whose tokens are remembered, in case the cache stores them."""

REPLAY_SECS: Final = 0.02
"""How often it is looked whether somebody wants a replay."""

_END: Final = b"\xff" * 8
_MASK: Final = (1 << 64) - 1


class KvPublisher:
    """Publishes at ``kv_events_port``, and replays at the next one."""

    def __init__(self, options: MockOptions, loses: Callable[[], bool]) -> None:
        """``loses``: whether the next batch doesn't arrive. Raises OSError when a port is taken."""
        import zmq  # noqa: PLC0415  (an extra)

        self._zmq = zmq
        self._options = options
        self._block_size = options.block_size
        self._loses = loses
        self._learnt: OrderedDict[int, tuple[int | None, Sequence[int]]] = OrderedDict()  # block → parent, tokens
        self._events: list[KvEvent] = []
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=BUFFERED)
        self._number = 0
        self._context = zmq.Context()
        self._live: Any = self._context.socket(zmq.PUB)
        self._replays: Any = self._context.socket(zmq.ROUTER)
        host, port = options.host, options.kv_events_port
        try:
            for socket, at in ((self._live, port), (self._replays, port + 1)):
                socket.setsockopt(zmq.LINGER, 0)
                socket.setsockopt(zmq.IPV6, 1)
                socket.bind(f"tcp://{authority(host, at)}")
        except zmq.ZMQError as error:
            self._context.destroy(0)
            raise OSError(f"{error}: tcp://{authority(host, port)} and {port + 1}") from None
        self._timer: asyncio.TimerHandle = asyncio.get_running_loop().call_later(REPLAY_SECS, self._look)
        self.lost = 0

    def learn(self, blocks: Sequence[int], ids: Sequence[int]) -> None:
        """Remember the tokens of a prompt's blocks."""
        size, parent = self._block_size, None
        for at, block in enumerate(blocks):
            self._learnt[block] = parent, ids[at * size : (at + 1) * size]
            self._learnt.move_to_end(block)
            parent = block
        while len(self._learnt) > LEARNT:
            self._learnt.popitem(last=False)

    def stored(self, blocks: Sequence[int]) -> None:
        """The cache holds these now: each run of them is an event."""
        run: list[int] = []
        for block in (*blocks, None):
            if block is not None and (not run or self._learnt.get(block, (None,))[0] == run[-1]):
                run.append(block)
                continue
            self._tell_run(run)
            run = [] if block is None else [block]

    def _tell_run(self, run: Sequence[int]) -> None:
        if not run or not all(block in self._learnt for block in run):
            return
        parent = self._learnt[run[0]][0]
        ids = [each for block in run for each in self._learnt[block][1]]
        names: list[BlockHash] = [_told(block) for block in run]
        self._events.append(BlockStored(
            names, None if parent is None else _told(parent), ids, self._block_size,
            medium="GPU", extra_keys=[None] * len(run), group_idx=0, kv_cache_spec_kind="full_attention",
        ))  # fmt: skip

    def removed(self, block: int) -> None:
        """The cache has evicted it."""
        self._events.append(BlockRemoved([_told(block)], "GPU", 0))

    def cleared(self) -> None:
        """The cache is empty."""
        self._events.append(AllBlocksCleared())

    def publish(self) -> None:
        """Publish what happened since."""
        if self._events:
            self.send(self._events)
            self._events = []

    def send(self, events: Sequence[KvEvent]) -> None:
        """Publish a batch."""
        payload = msgspec.msgpack.encode((time.time(), events, 0))
        number, self._number = self._number, self._number + 1
        self._buffer.append((number, payload))
        if self._loses():
            self.lost += 1
            return
        self._live.send_multipart((b"", number.to_bytes(8, "big"), payload), self._zmq.NOBLOCK)

    def new_cache(self) -> ToldPrefixCache:
        """Return an empty cache, whose changes are published."""
        return ToldPrefixCache(self._options.cache_tokens, self)

    def restart(self) -> ToldPrefixCache:
        """Be another process: nothing that was is known. Returns its cache."""
        self._number = 0
        self._buffer.clear()
        self._events.clear()
        return self.new_cache()

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(REPLAY_SECS, self._look)
        while self._replays.getsockopt(self._zmq.EVENTS) & self._zmq.POLLIN:
            frames: list[bytes] = self._replays.recv_multipart(self._zmq.NOBLOCK)
            if len(frames) == 3:
                self._replay(frames[0], int.from_bytes(frames[2], "big"))

    def _replay(self, who: bytes, first: int) -> None:
        for number, payload in self._buffer:
            if number >= first:
                self._replays.send_multipart((who, b"", b"", number.to_bytes(8, "big"), payload), self._zmq.NOBLOCK)
        self._replays.send_multipart((who, b"", b"", _END, b""), self._zmq.NOBLOCK)

    def close(self) -> None:
        """End it."""
        self._timer.cancel()
        self._context.destroy(0)


def _told(block: int) -> int:
    """Return the hash of a block as vLLM tells it."""
    return block & _MASK


class ToldPrefixCache(PrefixCache):
    """A prefix cache whose changes are published."""

    __slots__ = ("_publisher",)

    def __init__(self, capacity_tokens: int, publisher: KvPublisher) -> None:
        super().__init__(capacity_tokens)
        self._publisher = publisher

    def insert(self, blocks: Sequence[int], block_tokens: int) -> None:
        """See ``PrefixCache``."""
        new = [block for block in blocks[: self._capacity // block_tokens] if block not in self._blocks]
        self._publisher.stored(new)
        super().insert(blocks, block_tokens)
        self._publisher.publish()

    def on_evicted(self, block: int) -> None:
        """See ``PrefixCache``."""
        self._publisher.removed(block)

    def clear(self) -> None:
        """See ``PrefixCache``."""
        super().clear()
        self._publisher.cleared()
        self._publisher.publish()
