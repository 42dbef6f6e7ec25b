"""vLLM's NixlPushConnector: both get the request at once, and prefill writes its blocks where decode says.

The two find each other by their request id, the same ``X-Request-Id`` at both. So each attempt has another one, which
no client can choose: two requests with one id would be given each other's caches.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from fd_router.engines.pairing import PairedRequest, PairMember, PairPlan
from fd_router.engines.pairings.vllm_bodies import VllmPairing, decode_body, engine_id_of, fresh_id, prefill_body
from fd_router.http.messages import Request
from fd_router.spliced_body import Body


class TransferPlan(PairPlan):
    """One attempt whose two bodies are known beforehand."""

    blames_both: ClassVar[bool] = True

    for_prefill: Body
    for_decode: Body

    def prefill_body(self) -> Body:
        """Return the body."""
        return self.for_prefill

    def decode_body(self, prefill_answer: bytes | None) -> Body:  # noqa: ARG002
        """Return the body."""
        return self.for_decode


class NixlPushPlan(TransferPlan):
    """One attempt, with a request id of its own."""

    has_own_heads: ClassVar[bool] = True

    def with_heads(self, request: Request) -> tuple[Request, Request]:
        """Have both requests tell that id."""
        named = msgspec.structs.replace(request, request_id=self.request_id)
        return named, named


class NixlPushPairing(VllmPairing):
    """The protocol. Prefill instances register their engine's id and the port of their side channel."""

    name = "NixlPushConnector"

    def fault(self, member: PairMember) -> str:
        """Say what a prefill instance doesn't tell."""
        if member.role != "prefill":
            return ""
        if not engine_id_of(member):
            return (
                "kv_transfer.engine_id is missing: with NixlPushConnector a prefill instance tells the engine_id of "
                "its --kv-transfer-config"
            )
        if not member.kv_transfer.get("side_channel_port"):
            return (
                "kv_transfer.side_channel_port is missing: with NixlPushConnector a prefill instance tells its "
                "VLLM_NIXL_SIDE_CHANNEL_PORT"
            )
        return ""

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:  # noqa: ARG002
        """Plan one attempt."""
        told, transfer_id = prefill.kv_transfer, f"xfer-{fresh_id()}"
        request_id = f"{request.sent_id}-{fresh_id()}"
        parameters: dict[str, Any] = {
            "do_remote_decode": False,
            "do_remote_prefill": True,
            "remote_engine_id": engine_id_of(prefill),
            "remote_host": told.get("side_channel_host") or prefill.host_ip,
            "remote_port": told.get("side_channel_port"),
            "tp_size": prefill.tp_size,
            "pp_size": told.get("pp_size", 1),
            "remote_request_id": request_id,
            "transfer_id": transfer_id,
        }
        return NixlPushPlan(
            request_id,
            prefill_body(request, transfer_id=transfer_id),
            decode_body(request, msgspec.json.encode(parameters)),
        )
