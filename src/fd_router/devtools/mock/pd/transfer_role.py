"""What makes a vLLM or SGLang mock instance one of a pair: it checks what it is told, and hands its KV cache over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fd_router.devtools.mock.answers import Handle, respond
from fd_router.devtools.mock.completions import Body
from fd_router.devtools.mock.generation import Generation
from fd_router.devtools.mock.http_server import Call
from fd_router.devtools.mock.options import MockOptions
from fd_router.devtools.mock.pd.cache_depot import Cache, CacheDepot, Taking
from fd_router.devtools.mock.pd.cache_taker import PATH, CacheTaker
from fd_router.devtools.mock.pd.transfer_generation import KeepingGeneration, TakingGeneration
from fd_router.devtools.mock.pd.transfer_rules import MOONCAKE, SGLANG, Ticket, TransferRules
from fd_router.errors import BadRequestError

FAIL_SECS = 0.2
"""How long it takes to see that a cache can't be had. vLLM needs 5 s, which tests needn't wait for."""

_decode = msgspec.json.Decoder(Taking).decode


class TransferRole:
    """The pair's side of a prefill or decode instance. ``log`` gets a line for each rule that a request breaks."""

    def __init__(self, options: MockOptions, host: str, port: int, log: Callable[[str], None]) -> None:
        self._rules = TransferRules(options, host, port)
        self._depot = CacheDepot(options.kv_wait_secs)
        self._taker = CacheTaker()
        self._log = log
        self.refused = 0  # requests that break a rule
        self.alone = 0  # requests that decode serves whole

    def routes(self) -> Mapping[str, Mapping[str, Handle]]:
        """Return the endpoints of its side channel."""
        routes: dict[str, Mapping[str, Handle]] = {PATH: {"POST": self._hand_over}}
        if self._rules.protocol == MOONCAKE:
            engines = {"0": {"engine_id": self._rules.engine_id, "worker_addr": {}}}
            routes["/query"] = {"GET": lambda call: respond(call, engines)}
        return routes

    def read(self, body: Body, call: Call) -> Ticket:  # noqa: ARG002
        """Check what a request says of its pair. Raises BadRequestError."""
        try:
            return self._read(call)
        except BadRequestError as error:
            self.refused += 1
            self._log(f"pair: {error.message}")
            raise

    def _read(self, call: Call) -> Ticket:
        headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in call.request.headers}
        ticket = self._rules.read(call.request.body, headers)
        if self._rules.role == "prefill":
            if ticket.key and self._depot.is_used(ticket.key):
                raise BadRequestError(f"Invalid request: {ticket.key!r} was used before", code="kv_transfer")
        elif not ticket.host:
            if self._rules.protocol == SGLANG:
                raise BadRequestError("Invalid request: decode does nothing without a cache", code="kv_transfer")
            self.alone += 1
        return ticket

    def refuse_duplicate(self, request_id: str) -> BadRequestError:
        """Return the error of a request that is running already."""
        return BadRequestError(f"request_id {request_id!r} is running here already", status=409, code="duplicate")

    def generation(self, ticket: Ticket, *arguments: Any, **options: Any) -> Generation:
        """Make the generation of a request that ``read`` found right."""
        if self._rules.role == "prefill":
            return KeepingGeneration(ticket, self._rules, self._depot, *arguments, **options | {"max_tokens": 1})
        return TakingGeneration(ticket, self._taker, FAIL_SECS, *arguments, **options)

    def forget(self, ticket: Ticket) -> None:
        """The request ended without a generation: as if it had never come, so it may come once more."""

    def _hand_over(self, call: Call) -> None:
        try:
            taking = _decode(call.request.body)
        except msgspec.DecodeError as error:
            raise BadRequestError(f"Invalid order: {error}") from None
        if self._rules.role != "prefill":
            raise BadRequestError("only prefill instances keep KV caches")
        if taking.engine_id not in ("", self._rules.engine_id):
            raise BadRequestError(f"the engine {taking.engine_id!r} isn't mine, {self._rules.engine_id!r}")

        def on_cache(cache: Cache | None, trouble: str) -> None:
            if not call.is_gone:
                call.respond(
                    404 if cache is None else 200, trouble.encode() if cache is None else msgspec.json.encode(cache)
                )

        self._depot.take(taking.key, on_cache)

    def describe(self) -> dict[str, int]:
        """Return what ``/mock/state`` shows of it."""
        return {
            "kv_expected": self._depot.awaited,
            "kv_held": self._depot.kept,
            "kv_received": self._depot.taken,
            "kv_expired": self._depot.expired,
            "refused_pairs": self.refused,
            "alone": self.alone,
            "duplicates": 0,
        }

    def close(self) -> None:
        """End every connection and wait for nothing."""
        self._depot.close()
        self._taker.close()

    def __repr__(self) -> str:
        return f"<TransferRole {self._rules.role} {self._rules.protocol}>"
