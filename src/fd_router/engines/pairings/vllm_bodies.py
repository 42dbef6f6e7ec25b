"""The bodies of vLLM's pairs, whichever connector they have: ``kv_transfer_params`` tells each what to do.

Source: vLLM 0.32, ``distributed/kv_transfer/kv_connector/v1`` and its example proxies.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fd_router.engines.pairing import PairedRequest, Pairing, PairMember, PairPlan, SameBody
from fd_router.engines.pairings.asked_shape import AskedShape, read_shape
from fd_router.openai.json_splice import add_members, drop_members
from fd_router.spliced_body import Body, base_of

TRANSFER: Final = "kv_transfer_params"

NOT_FOR_PREFILL: Final = (
    TRANSFER, "stream", "stream_options", "max_tokens", "max_completion_tokens", "min_tokens", "min_completion_tokens",
)  # fmt: skip
"""What the prefill instance must not be asked: it makes one token, and a stream of it wouldn't tell of the cache."""

PAIRED_PATHS: Final = frozenset(("/v1/chat/completions", "/v1/completions", "/v1/messages"))
"""Endpoints where a pair does as one instance would. A response that is stored, or goes on from a stored one, is for
the instance that keeps it."""

PREFILL_PARAMETERS: Final[Mapping[str, Any]] = {"do_remote_decode": True, "do_remote_prefill": False}


def shape_of(request: PairedRequest) -> AskedShape:
    """Return what the body asks for, read once."""
    if request.asked is None:
        request.asked = read_shape(base_of(request.body))
    shape: AskedShape = request.asked
    return shape


def bare_body(request: PairedRequest) -> Body:
    """Return the client's body without parameters of its own. Raises ValueError when it is no JSON object."""
    if not request.prepared:
        request.prepared = drop_members(request.body, (TRANSFER,))
    return request.prepared


def given_prompt(shape: AskedShape) -> dict[str, Any]:
    """Return the ids that stand for a chat's prompt, where a stream goes on by them (``engines.continuation``)."""
    told = shape.kv_transfer_params
    ids = told.get("prompt_token_ids") if isinstance(told, dict) else None
    return {"prompt_token_ids": ids} if isinstance(ids, list) else {}


def prefill_body(request: PairedRequest, **more: Any) -> Body:
    """Return the body by which the prefill instance computes the prompt and keeps its cache."""
    shape = shape_of(request)
    parameters = msgspec.json.encode({**PREFILL_PARAMETERS, **more, **given_prompt(shape)})
    newer = b',"max_completion_tokens":1' if shape.max_completion_tokens is not None else b""
    members = b'"stream":false,"max_tokens":1%b,"%b":%b' % (newer, TRANSFER.encode(), parameters)
    return add_members(drop_members(bare_body(request), NOT_FOR_PREFILL[1:]), members)


def decode_body(request: PairedRequest, parameters: bytes) -> Body:
    """Return the client's body with ``parameters`` (JSON), which tell the decode instance where the cache is."""
    if prompt := given_prompt(shape_of(request)):
        parameters = msgspec.json.encode({**msgspec.json.decode(parameters), **prompt})
    return add_members(bare_body(request), b'"%b":%b' % (TRANSFER.encode(), parameters))


def fresh_id() -> str:
    """Return what no other attempt of any request has."""
    return os.urandom(8).hex()


class VllmPairing(Pairing):
    """What all of vLLM's connectors have in common: a decode instance that is told of no cache computes the prompt."""

    decodes_alone = True

    def why_alone(self, request: PairedRequest, path: str) -> str:
        """Name what only one instance can do: caches are handed over one prompt and one answer at a time."""
        if path not in PAIRED_PATHS:
            return "endpoint"
        shape = shape_of(request)
        if shape.choices > 1:
            return "choices"
        if shape.use_beam_search:
            return "beam_search"
        if shape.prompts > 1:
            return "prompts"
        if shape.prompt_embeds is not None:
            return "embeddings"
        return "prompt_logprobs" if shape.wants_prompt_logprobs else ""

    def plan_alone(self, request: PairedRequest) -> PairPlan:
        """Send the client's body; of parameters that it names itself only a stream's own token ids are kept."""
        body = bare_body(request)
        if prompt := given_prompt(shape_of(request)):
            body = add_members(body, b'"%b":%b' % (TRANSFER.encode(), msgspec.json.encode(prompt)))
        return SameBody(request.sent_id, body)


def engine_id_of(member: PairMember) -> str:
    """Return the id of the engine as its registration tells it, "" if it doesn't."""
    return str(member.kv_transfer.get("engine_id") or "")
