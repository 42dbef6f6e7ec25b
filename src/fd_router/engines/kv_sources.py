"""KV event sources: where an engine publishes the events of its prefix caches, a place for each data-parallel rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fd_router.engines.cache_facts import MAX_RANKS
from fd_router.errors import UNREADABLE

ANY_HOST: Final = frozenset({"*", "0.0.0.0", "::", "[::]", "localhost", "127.0.0.1", "[::1]", ""})  # noqa: S104
"""Hosts by which an engine says where it listens, not where it is reached: that is at the instance's own address."""


class KvEventSource(msgspec.Struct, frozen=True):
    """Where one rank publishes. ``host`` "": at the instance's address; ``replay_port`` 0: it keeps nothing."""

    port: int
    replay_port: int = 0
    topic: str = ""
    host: str = ""
    rank: int = 0


class _Told(msgspec.Struct):
    endpoint: str | None = None
    replay_endpoint: str | None = None
    topic: str | None = None
    publisher: str | None = None
    enable_kv_cache_events: bool = True


class _SglangTold(msgspec.Struct):
    endpoint_port_base: int
    endpoint_host: str | None = None
    topic: str | None = None
    dp_size: int | None = 1
    replay_endpoint_port_base: int | None = None
    publisher: str | None = None


class _ServerInfo(msgspec.Struct):
    kv_events: _SglangTold | None = None


def read_vllm_sources(answer: bytes) -> Sequence[KvEventSource]:
    """Read ``GET /kv_event_sources``: a rank's configuration each, its ports counted on already."""
    try:
        told = msgspec.json.decode(answer, type=dict[str, _Told])
    except UNREADABLE:
        return ()
    ranks = sorted((int(rank), each) for rank, each in told.items() if rank.isascii() and rank.isdigit())
    return [source for rank, each in ranks[:MAX_RANKS] if (source := _source(each, rank)) is not None]


def read_sglang_sources(answer: bytes) -> Sequence[KvEventSource]:
    """Read ``GET /server_info``: the ports of the first rank; each other one is one more."""
    try:
        told = msgspec.json.decode(answer, type=_ServerInfo).kv_events
    except UNREADABLE:
        return ()
    if told is None or told.publisher not in (None, "zmq"):
        return ()
    host = _host(told.endpoint_host or "")
    first = KvEventSource(told.endpoint_port_base, told.replay_endpoint_port_base or 0, told.topic or "", host)
    return _of_ranks(first, told.dp_size or 1)


def read_told_sources(told: Mapping[str, Any], ranks: int) -> Sequence[KvEventSource]:
    """Read a registration's ``kv_events``: the endpoints of the first rank; each other one is a port more."""
    try:
        first = _source(msgspec.convert(told, _Told), 0)
    except msgspec.ValidationError:
        return ()
    return () if first is None else _of_ranks(first, ranks)


def _of_ranks(first: KvEventSource, ranks: int) -> Sequence[KvEventSource]:
    """Return where each of so many ranks publishes, at least one: a port behind the one before it."""
    return [
        msgspec.structs.replace(
            first, port=first.port + rank, replay_port=first.replay_port + rank if first.replay_port else 0, rank=rank
        )
        for rank in range(min(max(ranks, 1), MAX_RANKS))
        if first.port + rank <= 65535
    ]


def _source(told: _Told, rank: int) -> KvEventSource | None:
    if not told.enable_kv_cache_events or told.publisher not in (None, "zmq"):
        return None
    host, port = _place(told.endpoint)
    if not port:
        return None
    return KvEventSource(port, _place(told.replay_endpoint)[1], told.topic or "", host, rank)


def _place(endpoint: str | None) -> tuple[str, int]:
    """Read ``tcp://HOST:PORT``; ("", 0) for anything else."""
    if endpoint is None or not endpoint.startswith("tcp://"):
        return "", 0
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        return "", 0
    return _host(host), int(port)


def _host(text: str) -> str:
    """Return the host without the brackets of an IPv6 address, "" for one at which nobody can be reached."""
    return "" if text in ANY_HOST else text.removeprefix("[").removesuffix("]")
