"""SGLang's pairs: both get the same body at once, with the room at prefill's bootstrap server where they meet.

Source: SGLang 0.5, ``PDRoutingFields`` and ``GenerateReqInput``; its own gateway.
"""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from fd_router.engines.pairing import PairedRequest, Pairing, PairMember, PairPlan, SameBody
from fd_router.engines.pairings.asked_shape import AskedShape, read_shape
from fd_router.errors import BadRequestError
from fd_router.openai.json_splice import add_members, drop_members
from fd_router.spliced_body import base_of

OWN_MEMBERS: Final = ("bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key")

MAX_SEQUENCES: Final = 4096
"""Answers of one request, each of which needs a room."""

_PREFILL: Final = msgspec.json.Encoder()


class BootstrapPlan(SameBody):
    """One attempt, in rooms of its own."""

    blames_both = True


class SglangPairing(Pairing):
    """The protocol. A decode instance does nothing without a cache that comes from elsewhere."""

    name = "SGLang"

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:  # noqa: ARG002
        """Plan one attempt. Raises BadRequestError for what a decode instance can't answer."""
        if not request.prepared:
            request.prepared = drop_members(request.body, OWN_MEMBERS)
            request.asked = _checked(read_shape(base_of(request.body)))
        host, port = prefill.host_ip, prefill.bootstrap_port or None  # None: decode takes its own --disaggregation-…
        number = _sequences(request.asked)
        told: dict[str, Any]
        if number:
            rooms = [_room() for _ in range(number)]
            told = {"bootstrap_host": [host] * number, "bootstrap_port": [port] * number, "bootstrap_room": rooms}
        else:
            told = {"bootstrap_host": host, "bootstrap_port": port, "bootstrap_room": _room()}
        return BootstrapPlan(request.sent_id, add_members(request.prepared, _PREFILL.encode(told)[1:-1]))


def _room() -> int:
    """Return a number that no other attempt has, from 0 to 2^63 - 1: caches are told apart by nothing else."""
    return int.from_bytes(os.urandom(8), "big") >> 1


def _sequences(shape: AskedShape) -> int:
    """Return how many answers there are, each with a room; 0 where there is only one, and no list."""
    number = shape.choices * shape.prompts
    return number if number > 1 or shape.has_prompt_list else 0


def _checked(shape: AskedShape) -> AskedShape:
    if shape.wants_prompt_logprobs:
        raise BadRequestError(
            "the prompt's logprobs aren't known to the decode instance of a pair: leave out logprob_start_len, or echo",
            code="not_for_pairs",
        )
    if shape.choices * shape.prompts > MAX_SEQUENCES:
        raise BadRequestError(
            f"n times the number of prompts is more than {MAX_SEQUENCES}: send them in several requests",
            code="not_for_pairs",
        )
    return shape
