"""What makes a mock instance one of a pair: it checks what it is told, and takes part in handing over KV caches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fd_router.devtools.mock.answers import Handle
from fd_router.devtools.mock.completions import Body
from fd_router.devtools.mock.generation import Generation
from fd_router.devtools.mock.http_server import Call
from fd_router.devtools.mock.pd.disaggregation import Member, Pairing
from fd_router.devtools.mock.pd.generation import DecodeGeneration, PrefillGeneration
from fd_router.devtools.mock.pd.kv_receiver import KvReceiver, Transfer
from fd_router.devtools.mock.pd.kv_sender import PATH, KvSender
from fd_router.errors import BadRequestError

_decode_transfer = msgspec.json.Decoder(Transfer).decode


class PdRole:
    """The pair's side of a prefill or decode instance."""

    def __init__(self, member: Member, kv_wait_secs: float) -> None:
        self._member = member
        self._receiver = KvReceiver(kv_wait_secs)
        self._sender = KvSender()
        self.refused = 0  # requests whose pair isn't right
        self.duplicates = 0  # requests refused since one with the same id is running

    def routes(self) -> Mapping[str, Mapping[str, Handle]]:
        """Return the endpoint where it is handed KV caches."""
        return {PATH: {"POST": self.receive}}

    def read(self, body: Body, call: Call) -> Pairing:
        """Check what a request says of its pair. Raises BadRequestError."""
        try:
            return self._member.read(body, call.request.body)
        except BadRequestError:
            self.refused += 1
            raise

    def refuse_duplicate(self, request_id: str) -> BadRequestError:
        """Count a request that is running already, and return its error."""
        self.duplicates += 1
        return BadRequestError(f"request_id {request_id!r} is running here already", status=409, code="duplicate")

    def generation(self, ticket: Pairing, *arguments: Any, **options: Any) -> Generation:
        """Make the generation of a request that ``read`` found right."""
        if self._member.role == "prefill":
            return PrefillGeneration(ticket, self._sender, self._member.tp_size, *arguments, **options)
        return DecodeGeneration(ticket, self._receiver, *arguments, **options)

    def forget(self, ticket: Pairing) -> None:
        """The request ended without a generation."""
        self._receiver.forget(ticket.key)

    def receive(self, call: Call) -> None:
        """Answer a prefill instance that hands over a KV cache. Raises BadRequestError."""
        if self._member.role != "decode":
            raise BadRequestError("only decode instances take KV caches")
        try:
            self._receiver.receive(_decode_transfer(call.request.body))
        except msgspec.DecodeError as error:
            raise BadRequestError(f"Invalid KV transfer: {error}") from None
        call.respond(200, b"{}")

    def describe(self) -> dict[str, int]:
        """Return what ``/mock/state`` shows of it."""
        return {
            "kv_expected": self._receiver.expected,
            "kv_held": self._receiver.held,
            "kv_received": self._receiver.received,
            "refused_pairs": self.refused,
            "duplicates": self.duplicates,
        }

    def close(self) -> None:
        """End every link and wait for nothing."""
        self._receiver.close()
        self._sender.close()

    def __repr__(self) -> str:
        return f"<PdRole {self._member.role} {self._receiver!r}>"
