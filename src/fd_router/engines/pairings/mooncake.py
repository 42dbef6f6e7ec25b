"""vLLM's MooncakeConnector: both get the request at once, under a transfer id; decode asks prefill's bootstrap server.

That server also tells the ids of the engines behind it, one a data-parallel rank. An instance that was started anew has
other ones, so it is asked each time that it comes up.
"""

from __future__ import annotations

import random
from typing import ClassVar, Final

import msgspec

from fd_router.engines.pairing import PairedRequest, PairMember, PairPlan, Question
from fd_router.engines.pairings.nixl_push import TransferPlan
from fd_router.engines.pairings.vllm_bodies import VllmPairing, decode_body, engine_id_of, fresh_id, prefill_body
from fd_router.http.messages import Request, with_header

DEFAULT_PORT: Final = 8998
"""vLLM's ``VLLM_MOONCAKE_BOOTSTRAP_PORT``."""

RANK_HEADER: Final = b"x-data-parallel-rank"

MAX_KNOWN: Final = 4096
"""Instances whose engines are remembered; the ones that were asked first are forgotten first."""


class _Engine(msgspec.Struct):
    engine_id: str


_decode_engines = msgspec.json.Decoder(dict[int, _Engine]).decode

Ranks = tuple[tuple[int, str], ...]
"""The engines of an instance: rank and id."""


class MooncakePlan(TransferPlan):
    """One attempt, at one of prefill's data-parallel ranks."""

    has_own_heads: ClassVar[bool] = True

    rank: int

    def with_heads(self, request: Request) -> tuple[Request, Request]:
        """Have prefill's request name the rank whose engine decode will ask for the cache."""
        return with_header(request, RANK_HEADER, b"%d" % self.rank), request


class MooncakePairing(VllmPairing):
    """The protocol."""

    name = "MooncakeConnector"

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Ranks] = {}

    def can_pair(self, prefill: PairMember, decode: PairMember) -> bool:
        """Tell whether prefill's engines are known, and the versions fit."""
        return bool(self._ranks(prefill)) and super().can_pair(prefill, decode)

    def question(self, member: PairMember) -> Question | None:
        """Ask a prefill instance's bootstrap server for its engines, unless the registration tells the one it has."""
        if member.role != "prefill" or engine_id_of(member):
            return None
        return Question(member.bootstrap_port or DEFAULT_PORT, "/query")

    def learn(self, member: PairMember, answer: bytes) -> bool:
        """Take in what the server answered. Raises ValueError for what tells no engine."""
        ranks = tuple(sorted((rank, engine.engine_id) for rank, engine in _decode_engines(answer).items()))
        if not ranks:
            raise ValueError("no engine has joined it yet")
        key = (member.host_ip, member.port)
        before = self._known.pop(key, ())
        self._known[key] = ranks
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        return before != ranks

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:  # noqa: ARG002
        """Plan one attempt, at any of prefill's ranks."""
        rank, engine_id = random.choice(self._ranks(prefill))
        transfer_id, host = f"xfer-{fresh_id()}", prefill.host_ip
        place = f"[{host}]" if ":" in host else host
        parameters = {
            "do_remote_decode": False,
            "do_remote_prefill": True,
            "remote_bootstrap_addr": f"http://{place}:{prefill.bootstrap_port or DEFAULT_PORT}",
            "remote_engine_id": engine_id,
            "transfer_id": transfer_id,
        }
        return MooncakePlan(
            request.sent_id,
            prefill_body(request, transfer_id=transfer_id),
            decode_body(request, msgspec.json.encode(parameters)),
            rank,
        )

    def _ranks(self, member: PairMember) -> Ranks:
        told = engine_id_of(member)
        return ((0, told),) if told else self._known.get((member.host_ip, member.port), ())
