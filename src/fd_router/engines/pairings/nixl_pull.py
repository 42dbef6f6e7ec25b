"""vLLM's NixlConnector: prefill goes first, its answer names the blocks, and decode fetches them."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from fd_router.engines.pairing import Order, PairedRequest, PairMember, PairPlan
from fd_router.engines.pairings.vllm_bodies import TRANSFER, VllmPairing, bare_body, decode_body, prefill_body
from fd_router.spliced_body import Body


class _PrefillAnswer(msgspec.Struct):
    """What matters of it; the rest is skipped."""

    kv_transfer_params: msgspec.Raw = msgspec.Raw(b"null")


class _Parameters(msgspec.Struct):
    do_remote_prefill: bool = False


_decode_answer = msgspec.json.Decoder(_PrefillAnswer).decode
_decode_parameters = msgspec.json.Decoder(_Parameters | None).decode


class NixlPullPlan(PairPlan):
    """One attempt. What prefill computed is fetched once, so another attempt begins there again."""

    order: ClassVar[Order] = "prefill_first"
    blames_both: ClassVar[bool] = True

    paired: PairedRequest

    def prefill_body(self) -> Body:
        """Ask for one token, and for the cache to be kept."""
        return prefill_body(self.paired)

    def decode_body(self, prefill_answer: bytes | None) -> Body:
        """Put in what prefill says of its blocks. Raises ValueError when it says nothing: decode would compute anew."""
        told = _decode_answer(prefill_answer or b"").kv_transfer_params
        parameters = _decode_parameters(told)
        if parameters is None or not parameters.do_remote_prefill:
            raise ValueError(f"there is no {TRANSFER} in it: is it started with --kv-transfer-config?")
        return decode_body(self.paired, bytes(told))


class NixlPullPairing(VllmPairing):
    """The protocol. All that the two must know of each other the answer tells."""

    name = "NixlConnector"

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:  # noqa: ARG002
        """Plan one attempt."""
        bare_body(request)  # now, while a body that is no object is the client's fault
        return NixlPullPlan(request.sent_id, request)
