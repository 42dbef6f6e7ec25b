"""The dialect of vLLM, which speaks OpenAI's protocol and tells its load and its requests' ids in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import msgspec

from fd_router.engines.cache_facts import CacheFacts, count_ranks
from fd_router.engines.continuation.engines import VLLM
from fd_router.engines.continuation.ways import Ways
from fd_router.engines.dialect import AbortMessage, AbortReply, Dialect
from fd_router.engines.kv_sources import KvEventSource, read_vllm_sources
from fd_router.engines.pairing import Pairing, PairMember
from fd_router.engines.pairings.mooncake import MooncakePairing
from fd_router.engines.pairings.nixl_pull import NixlPullPairing
from fd_router.engines.pairings.nixl_push import NixlPushPairing
from fd_router.engines.prometheus import samples
from fd_router.errors import UNREADABLE

ABORT_PATH: Final = "/inference/v1/abort_requests"
"""Open with ``--enable-scale-out`` only, else 403: then a request is ended by the end of its connection."""

_PREFIXES: Final = ("chatcmpl-", "cmpl-", "resp_")
"""What it puts before a client's id, by the endpoint; behind that of a completion comes the number of the prompt."""


_SIZES: Final = ("kv_cache_size_tokens", "block_size", "num_gpu_blocks")
"""Of the cache of one engine; the first is newer."""


class _Version(msgspec.Struct, forbid_unknown_fields=True):
    version: str


class VllmDialect(Dialect):
    """vLLM's."""

    name: ClassVar[str] = "vllm"

    has_ranks: ClassVar[bool] = True

    makes_pairs: ClassVar[bool] = True

    metrics_prefix: ClassVar[bytes] = b"vllm:"

    ways: ClassVar[Ways] = VLLM

    detect_path: ClassVar[str] = "/version"

    kv_sources_path: ClassVar[str] = "/kv_event_sources"

    busy_statuses: ClassVar[frozenset[int]] = frozenset((429, 503))

    abort_closed_statuses: ClassVar[frozenset[int]] = frozenset((403,))

    def __init__(self) -> None:
        pull, push, mooncake = NixlPullPairing(), NixlPushPairing(), MooncakePairing()
        self._pairings: Mapping[str, Pairing] = {
            "": pull, pull.name: pull, "NixlPullConnector": pull, push.name: push, mooncake.name: mooncake,
        }  # fmt: skip

    def pairing(self, member: PairMember) -> Pairing | None:
        """Tell by the connector that is registered; where none is, NixlConnector, whose answers show it."""
        return self._pairings.get(member.kv_transfer.get("kv_connector", ""))

    def pair_fault(self, member: PairMember) -> str:
        """Refuse connectors that aren't known here."""
        if self.pairing(member) is None:
            known = ", ".join(name for name in self._pairings if name)
            told = str(member.kv_transfer.get("kv_connector"))[:80]
            return f"kv_transfer.kv_connector {told!r} isn't known; known are {known}"
        return super().pair_fault(member)

    def recognizes(self, answer: bytes) -> bool:
        """Tell by ``{"version": "0.32.0"}``, and nothing else in it."""
        try:
            msgspec.json.decode(answer, type=_Version)
        except UNREADABLE:
            return False
        return True

    def read_cache(self, page: bytes) -> CacheFacts | None:
        """Read ``vllm:cache_config_info``, a sample for each data-parallel engine."""
        told = [labels for labels, _ in samples(page, b"vllm:cache_config_info")]
        if not told:
            return None
        tokens, block, blocks = (_whole(told[0].get(name)) for name in _SIZES)
        ranks = count_ranks(labels.get("engine", "") for labels in told)
        return CacheFacts(tokens or block * blocks, blocks, ranks)

    def read_kv_sources(self, answer: bytes) -> Sequence[KvEventSource]:
        """Read where each data-parallel rank publishes."""
        return read_vllm_sources(answer)

    def abort(self, ids: Sequence[str] | None) -> Sequence[AbortMessage]:
        """Tell it the ids in each form that it may know them by. It has no word for all requests."""
        if ids is None:
            return ()
        names = [name for request_id in ids for name in _names(request_id)]
        return (AbortMessage(ABORT_PATH, msgspec.json.encode({"request_ids": names})),)

    def read_abort(self, answer: bytes) -> AbortReply:  # noqa: ARG002
        """Read its answer, which says nothing: it aborts what it knows, later."""
        return AbortReply(is_silent=True)


def _whole(text: str | None) -> int:
    """Read a number among the labels, of which some are ``None``."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 12 else 0


def _names(request_id: str) -> Sequence[str]:
    if request_id.startswith(_PREFIXES):
        return (request_id, f"{request_id}-0")
    return (request_id, *(f"{prefix}{request_id}" for prefix in _PREFIXES), f"cmpl-{request_id}-0")
