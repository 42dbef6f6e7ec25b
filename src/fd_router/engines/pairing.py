"""Pairing: how two instances of an engine share a request, one computing the prompt, one the answer.

Each protocol by which they hand the KV cache over is a class of its own: FastDeploy's, vLLM's connectors, SGLang's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec

from fd_router.http.heads import LONG_BODY
from fd_router.http.messages import Request
from fd_router.openai.json_splice import place_of_members
from fd_router.spliced_body import Body, SplicedBody, changed

Order = Literal["together", "prefill_first"]
"""When decode gets its request: with prefill's, or when prefill's answer is whole."""


class PairMember(Protocol):
    """What an instance registered, as far as the two of a pair must know of each other."""

    @property
    def role(self) -> str: ...
    @property
    def host_ip(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def connector_port(self) -> int: ...
    @property
    def device_ids(self) -> Sequence[str]: ...
    @property
    def rdma_ports(self) -> Sequence[str]: ...
    @property
    def transfer_protocol(self) -> Sequence[str]: ...
    @property
    def tp_size(self) -> int: ...
    @property
    def version(self) -> str: ...
    @property
    def bootstrap_port(self) -> int: ...
    @property
    def kv_transfer(self) -> Mapping[str, Any]: ...
    @property
    def extra(self) -> Mapping[str, Any]: ...


class PairedRequest(msgspec.Struct, gc=False):
    """One request, as a dialect makes the two bodies of a pair of it. It lives as long as the request.

    ``has_router_fields``: the body has members that a router writes, or a ``request_id`` that is none, so whatever is
    to be put in must be taken out first.
    """

    body: Body  # the client's
    request_id: str  # the client's own, or one made here
    has_own_id: bool  # the client's body has it
    has_router_fields: bool
    stream: bool
    reschedules: int = 0  # how often decode gave it back
    token_ids: Sequence[int] = ()  # generated before it did
    prepared: Body = b""  # the dialect's: what it made of the body and needs again for another attempt
    asked: Any = None  # … and what it read there
    http_id: str = ""  # the X-Request-Id that both are sent, "": the same id

    @property
    def sent_id(self) -> str:
        """The X-Request-Id that both are sent."""
        return self.http_id or self.request_id

    def use_body(self, body: Body) -> None:
        """Make the bodies of what follows from ``body``, which asks for another model perhaps."""
        if self.body is not body:
            self.body, self.prepared, self.asked = body, b"", None


class PairPlan(msgspec.Struct, gc=False):
    """How one attempt at a pair goes. ``request_id``: by which both instances know the request then."""

    order: ClassVar[Order] = "together"

    has_own_heads: ClassVar[bool] = False
    """Whether ``with_heads`` is to be asked."""

    blames_both: ClassVar[bool] = False
    """Whether an error that decode answers may be prefill's doing: its cache couldn't be fetched."""

    request_id: str

    def with_heads(self, request: Request) -> tuple[Request, Request]:
        """Return the client's request with the heads that the prefill and the decode instance get."""
        return request, request

    def prefill_body(self) -> Body:
        """Return the body for the prefill instance."""
        raise NotImplementedError

    def decode_body(self, prefill_answer: bytes | None) -> Body:
        """Return the body for the decode instance.

        ``prefill_answer``: the whole body that prefill answered, where it goes first, else None. Raises ValueError when
        that lacks what decode needs.
        """
        raise NotImplementedError


class SameBody(PairPlan):
    """A pair whose two instances get the same body at once."""

    body: Body

    def prefill_body(self) -> Body:
        """Return the body."""
        return self.body

    def decode_body(self, prefill_answer: bytes | None) -> Body:  # noqa: ARG002
        """Return the body."""
        return self.body


class Question(NamedTuple):
    """What must be asked of a prefill instance before it can pair: a GET of ``path`` at a ``port`` of its host."""

    port: int
    path: str


class Pairing:
    """A protocol by which the two of a pair hand the KV cache over. An object of it serves all pairs.

    ``plan`` is called for every request and each of its attempts.
    """

    name: ClassVar[str] = ""
    """What docs and errors call it."""

    decodes_alone: ClassVar[bool] = False
    """Whether a decode instance serves a whole request that tells it of no cache."""

    def can_pair(self, prefill: PairMember, decode: PairMember) -> bool:
        """Tell whether two instances that both have this protocol can serve a request together."""
        return not prefill.version or not decode.version or prefill.version == decode.version

    def fault(self, member: PairMember) -> str:  # noqa: ARG002
        """Say what a registration lacks for it, naming the key and the mend; "" for nothing."""
        return ""

    def question(self, member: PairMember) -> Question | None:  # noqa: ARG002
        """Return what to ask a prefill instance when it comes up; None for nothing."""
        return None

    def learn(self, member: PairMember, answer: bytes) -> bool:  # noqa: ARG002
        """Take in what it answered with status 200. Returns whether that tells another thing than before."""
        return False

    def why_alone(self, request: PairedRequest, path: str) -> str:  # noqa: ARG002
        """Say in a word why a pair can't serve ``request`` to the endpoint ``path``; "" when it can."""
        return ""

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:
        """Plan one attempt of ``request`` at a pair that ``can_pair``.

        Raises ValueError when the client's body is no JSON object, an HttpError when a pair can't serve it.
        """
        raise NotImplementedError

    def plan_alone(self, request: PairedRequest) -> PairPlan:
        """Plan one attempt at the decode instance alone, which is sent ``decode_body``. Raises ValueError."""
        return SameBody(request.sent_id, request.body)

    def __repr__(self) -> str:
        return f"<Pairing {self.name}>"


def with_members(body: Body, members: bytes) -> Body:
    """Return the JSON object ``body`` with ``members`` put first.

    A long one isn't copied: what is sent is held as long as its request lasts, and so is the body.
    """
    start, comma = place_of_members(body)
    if not isinstance(body, bytes):
        return changed(body, ((start, start, members + comma),))
    if len(body) < LONG_BODY:
        return b"".join((body[:start], members, comma, body[start:]))
    return SplicedBody(body, ((start, start, members + comma),))
