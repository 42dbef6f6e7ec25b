"""The bus over Redis or Valkey: a stream that each process reads from its own place, and one for each process.

Streams and no Pub/Sub: a reader that was away reads what it has missed, and one that is slow loses nothing that still
stands in the stream. All names have the key prefix in braces, so that a cluster keeps them on one node, as scripts over
several keys, and a read of two streams, want it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fd_router.bus import Ask, BusError, Grant
from fd_router.config.state import StateConfig
from fd_router.errors import ConfigError
from fd_router.state.redis.client import close_client, open_client, open_cluster, shown
from fd_router.state.redis.cluster import Place
from fd_router.state.redis.kept_connection import KeptConnection
from fd_router.state.redis.scripts import LEASE, RESERVE, SETTLE

KEPT_FRAMES = 4_000
"""Frames in the stream, about: at 50 a second of each of four processes, the last twenty seconds."""

KEPT_LETTERS = 10_000
"""Messages to one process that wait for it, at most."""

LETTERS_SECONDS = 60
"""How long they wait."""

READ_MS = 500
"""How long a read waits for messages."""

AT_MOST = 256
"""Messages of one read."""


class RedisBus:
    """See ``bus.Bus``. ``process``: whose messages it receives beside those to all."""

    def __init__(self, options: StateConfig, process: str) -> None:
        """Raises ConfigError for a URL that names no server, and where the package is missing."""
        self._options = options
        self._node: Place | None = None  # of a cluster
        self._is_closed = False
        self._open_clients()
        self._place = shown(options.url)
        self._process = process
        self._prefix = prefix = "{" + options.key_prefix + "}"
        self._frames = f"{prefix}:frames"
        self._letters = f"{prefix}:to:"
        self._leases = f"{prefix}:lease:"
        self._buckets = f"{prefix}:limit:"
        self._positions: dict[str, str] = {}
        self._own = self._letters + process
        self._cluster = open_cluster(options, self._frames) if options.cluster else None

    def _open_clients(self) -> None:
        options, at = self._options, self._node
        self._client: Any = open_client(options, read_secs=options.timeout_secs, at=at)
        self._untimed: Any = open_client(options, read_secs=None, at=at)
        self._writing = KeptConnection(self._untimed, options.timeout_secs)
        self._reading = KeptConnection(self._untimed, READ_MS / 1000 + options.timeout_secs)
        self._scripts = {text: self._client.register_script(text) for text in (RESERVE, SETTLE, LEASE)}

    @property
    def place(self) -> str:
        """See ``Bus``."""
        return self._place

    async def open(self) -> None:
        """See ``Bus``. Goes on from its places in the streams; one that was lost is begun anew."""
        async with self._errors():
            for kept in (self._writing, self._reading):
                await kept.drop()
            if self._cluster is not None:
                await self._go_to(await self._cluster.find_owner())
            last = await self._client.xrevrange(self._frames, count=1)
            self._positions = {
                self._frames: await self._place_in(self._frames) or (last[0][0] if last else "0-0"),
                self._own: await self._place_in(self._own) or "0-0",
            }
        await self._load_scripts()

    async def _place_in(self, name: str) -> str:
        """Return what was read last of a stream; "" where it doesn't stand there any more, so that some may be lost."""
        at = self._positions.get(name, "")
        return at if at and await self._client.xrange(name, at, at, count=1) else ""

    async def _go_to(self, node: Place) -> None:
        """Speak to that node of the cluster from now on."""
        if node != self._node:
            await self._disconnect()
            self._node = node
            self._open_clients()

    async def _load_scripts(self) -> None:
        """Have the server know them before the first request waits for one. Where it can't, each brings itself."""
        with suppress(BusError):
            async with self._errors():
                for text in (RESERVE, SETTLE):
                    await self._client.script_load(text)

    async def send(self, data: bytes, to: str = "") -> None:
        """See ``Bus``."""
        async with self._errors():
            if not to:
                await self._writing.ask("XADD", self._frames, "MAXLEN", "~", KEPT_FRAMES, "*", "f", data)
                return
            name = self._letters + to
            async with self._client.pipeline(transaction=False) as steps:
                steps.xadd(name, {"f": data}, maxlen=KEPT_LETTERS, approximate=True)
                steps.expire(name, LETTERS_SECONDS)
                await steps.execute()

    async def receive(self) -> Sequence[bytes]:
        """See ``Bus``."""
        streams = (*self._positions, *self._positions.values())
        async with self._errors():
            found = await self._reading.ask("XREAD", "COUNT", AT_MOST, "BLOCK", READ_MS, "STREAMS", *streams)
        messages: list[bytes] = []
        for name, entries in found.items() if isinstance(found, dict) else found or ():  # RESP3, RESP2
            if entries:
                self._positions[name.decode()] = entries[-1][0]
                messages += _frames_of(entries)
        return messages

    async def lease(self, name: str, secs: float) -> bool:
        """See ``Bus``."""
        async with self._errors():
            taken = await self._scripts[LEASE](keys=[self._leases + name], args=[self._process, int(secs * 1000)])
        return bool(taken)

    async def reserve(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        """See ``Bus``."""
        script = self._scripts[RESERVE]
        async with self._errors():
            found = await asyncio.gather(
                *(script(keys=[self._buckets + ask.key], args=[*_limits(ask), *ask.tokens]) for ask in asks)
            )
        return [Grant(int(granted), float(requests), float(tokens)) for granted, requests, tokens in found]

    async def settle(self, ask: Ask, requests: int) -> None:
        """See ``Bus``."""
        async with self._errors():
            arguments = [*_limits(ask), requests, sum(ask.tokens)]
            await self._scripts[SETTLE](keys=[self._buckets + ask.key], args=arguments)

    async def close(self) -> None:
        """See ``Bus``."""
        self._is_closed = True
        await self._disconnect()

    async def _disconnect(self) -> None:
        for client in (self._client, self._untimed):
            try:
                await close_client(client)
            except Exception:  # noqa: BLE001, S112  (whatever it met, it is closed now)
                continue

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Make one error of what the client raises. Who was under way at the end closes what was opened meanwhile."""
        from redis.exceptions import RedisClusterException, RedisError  # noqa: PLC0415  only where it is installed

        try:
            yield
        except (RedisError, RedisClusterException, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise BusError(self._told(error)) from None
        except ConfigError:
            raise
        except (RuntimeError, ValueError, LookupError, AttributeError) as error:
            # The client meets connections that break in the middle of an answer with errors of other kinds.
            raise BusError(f"{type(error).__name__}: {error}") from None
        finally:
            if self._is_closed:
                await self._disconnect()

    def _told(self, error: BaseException) -> str:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if "WRONGTYPE" in what:
            return f"{what}: keys that begin with {self._prefix} are somebody else's, too; set another state.key-prefix"
        return what

    def __repr__(self) -> str:
        return f"<RedisBus {self._place}>"


def _limits(ask: Ask) -> tuple[int, int]:
    return ask.requests_per_minute, ask.tokens_per_minute


def _frames_of(entries: Sequence[Any]) -> Iterator[bytes]:
    """Give what this program's have put into entries of a stream; others' are passed over."""
    for _, fields in entries:
        if fields and fields[0] == b"f":
            yield fields[1]
