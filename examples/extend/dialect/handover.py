"""A dialect whose prefill goes first: what it answers tells decode where the KV cache is.

vLLM's NixlConnector works so. Prefill makes one token and names its cache in `kv_transfer_params`; decode gets the
client's own request with that object put in, fetches the cache, and answers.
"""

from typing import ClassVar

import msgspec

from fd_router.engines.dialect import Dialect, Order, PairedRequest, PairMember, PairPlan
from fd_router.openai.json_splice import add_members, drop_members

PARAMETERS = ("kv_transfer_params",)

NOT_FOR_PREFILL = (
    *PARAMETERS, "stream", "stream_options", "max_tokens", "max_completion_tokens", "min_tokens",
)  # fmt: skip

FOR_PREFILL = b'"stream":false,"max_tokens":1,"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false}'


class PrefillAnswer(msgspec.Struct):
    """What matters of prefill's answer; the rest is skipped. `Raw`: handed over byte for byte."""

    kv_transfer_params: msgspec.Raw


class HandOver(PairPlan):
    """One attempt at a pair."""

    order: ClassVar[Order] = "prefill_first"

    body: bytes  # the client's

    def prefill_body(self) -> bytes:
        """Ask for one token, and for the cache to be kept."""
        return add_members(drop_members(self.body, NOT_FOR_PREFILL), FOR_PREFILL)

    def decode_body(self, prefill_answer: bytes | None) -> bytes:
        """Put prefill's parameters into the client's request. One that lacks them is prefill's failure (ValueError)."""
        parameters = msgspec.json.decode(prefill_answer or b"", type=PrefillAnswer).kv_transfer_params
        return add_members(drop_members(self.body, PARAMETERS), b'"kv_transfer_params":' + bytes(parameters))


class HandOverDialect(Dialect):
    """Only what this engine does otherwise than others that speak OpenAI's protocol."""

    name: ClassVar[str] = "hand-over"
    makes_pairs: ClassVar[bool] = True
    busy_statuses: ClassVar[frozenset[int]] = frozenset({503})

    def can_pair(self, prefill: PairMember, decode: PairMember) -> bool:
        """Let those of one version work together. Keys that the router doesn't know are in `extra`."""
        return prefill.version == decode.version

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:
        """Make both bodies of the client's alone."""
        return HandOver(request.request_id, request.body)
