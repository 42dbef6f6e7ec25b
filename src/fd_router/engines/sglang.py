"""The dialect of SGLang: its readiness, its load by data-parallel rank, its aborts by ``rid``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from fd_router.engines.cache_facts import CacheFacts, count_ranks
from fd_router.engines.continuation.engines import SGLANG
from fd_router.engines.continuation.ways import Ways
from fd_router.engines.dialect import AbortMessage, AbortReply, Dialect
from fd_router.engines.engine_load import EngineLoad
from fd_router.engines.kv_sources import KvEventSource, read_sglang_sources
from fd_router.engines.pairing import Pairing, PairMember
from fd_router.engines.pairings.sglang_bootstrap import SglangPairing
from fd_router.engines.prometheus import samples
from fd_router.errors import UNREADABLE

ABORT_PATH: Final = "/abort_request"

_RANKS: Final = ("model_name", "engine_type", "dp_rank")
"""Labels that tell ranks with batches of their own apart. Samples that differ otherwise are of the same batch (one for
each tensor-parallel rank), or parts of a sum that is among them (one for each priority)."""


class _RankLoad(msgspec.Struct):
    num_running_reqs: float = 0.0
    num_waiting_reqs: float = 0.0
    dp_rank: int = 0
    max_total_num_tokens: int = 0


class _Loads(msgspec.Struct):
    loads: list[_RankLoad]


class _ServerInfo(msgspec.Struct):
    disaggregation_mode: str


class SglangDialect(Dialect):
    """SGLang's."""

    name: ClassVar[str] = "sglang"

    makes_pairs: ClassVar[bool] = True

    ways: ClassVar[Ways] = SGLANG

    has_ranks: ClassVar[bool] = True

    metrics_prefix: ClassVar[bytes] = b"sglang:"

    detect_path: ClassVar[str] = "/server_info"

    health_path: ClassVar[str] = "/ready"
    """Answers at once; ``/health`` generates a token first, which takes a second at least."""

    load_path: ClassVar[str] = "/v1/loads?include=core"
    """There without ``--enable-metrics`` too, and a page of some hundred bytes."""

    load_is_metrics: ClassVar[bool] = False

    kv_sources_path: ClassVar[str] = "/server_info"

    busy_statuses: ClassVar[frozenset[int]] = frozenset((429, 503))

    def __init__(self) -> None:
        self._pairing = SglangPairing()

    def pairing(self, member: PairMember) -> Pairing:  # noqa: ARG002
        """Return the one that it has."""
        return self._pairing

    def recognizes(self, answer: bytes) -> bool:
        """Tell by the server's settings, which all versions show."""
        try:
            msgspec.json.decode(answer, type=_ServerInfo)
        except UNREADABLE:
            return False
        return True

    def read_load(self, page: bytes) -> EngineLoad | None:
        """Read ``/v1/loads``, or, of an older version, ``/metrics``; the ranks are added up."""
        if not page.lstrip().startswith(b"{"):
            return read_gauges(page)
        told = _loads(page)
        if not told:
            return None
        return EngineLoad(sum(rank.num_running_reqs for rank in told), sum(rank.num_waiting_reqs for rank in told))

    def read_cache(self, page: bytes) -> CacheFacts | None:
        """Read ``/v1/loads``, an entry for each data-parallel rank; of an older version, its gauges."""
        if not page.lstrip().startswith(b"{"):
            told = list(samples(page, b"sglang:max_total_num_tokens"))
            if not told:
                return None
            ranks = count_ranks(labels.get("dp_rank", "") for labels, _ in told)
            return CacheFacts(int(min(value for _, value in told)), ranks=ranks)
        loads = _loads(page)
        if not loads:
            return None
        ranks = count_ranks(str(rank.dp_rank) for rank in loads)
        return CacheFacts(max(0, min(rank.max_total_num_tokens for rank in loads)), ranks=ranks)

    def read_kv_sources(self, answer: bytes) -> Sequence[KvEventSource]:
        """Read where each data-parallel rank publishes."""
        return read_sglang_sources(answer)

    def abort(self, ids: Sequence[str] | None) -> Sequence[AbortMessage]:
        """Tell it one id a message, or that all are meant."""
        orders = [{"abort_all": True}] if ids is None else [{"rid": request_id} for request_id in ids if request_id]
        return [AbortMessage(ABORT_PATH, msgspec.json.encode(order)) for order in orders]

    def read_abort(self, answer: bytes) -> AbortReply:  # noqa: ARG002
        """Read its answer, which is empty."""
        return AbortReply(is_silent=True)


def _loads(page: bytes) -> list[_RankLoad]:
    """Read ``/v1/loads``; nothing of what is no such page."""
    try:
        return msgspec.json.decode(page, type=_Loads).loads
    except UNREADABLE:
        return []


def read_gauges(page: bytes) -> EngineLoad | None:
    """Read the gauges: the largest sample of each rank, added up."""
    running, waiting = _by_rank(page, b"sglang:num_running_reqs"), _by_rank(page, b"sglang:num_queue_reqs")
    if not running or not waiting:
        return None
    return EngineLoad(sum(running.values()), sum(waiting.values()))


def _by_rank(page: bytes, name: bytes) -> dict[tuple[str, ...], float]:
    largest: dict[tuple[str, ...], float] = {}
    for labels, value in samples(page, name):
        rank = tuple(labels.get(label, "") for label in _RANKS)
        largest[rank] = max(value, largest.get(rank, 0.0))
    return largest
