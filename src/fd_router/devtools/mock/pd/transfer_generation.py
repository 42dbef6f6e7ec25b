"""Generations of vLLM's and SGLang's pairs: prefill keeps its cache until decode takes it, decode waits for that."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from fd_router.devtools.engine_model.runs import Token
from fd_router.devtools.mock.generation import Generation
from fd_router.devtools.mock.pd.cache_depot import Cache, CacheDepot, Taking
from fd_router.devtools.mock.pd.cache_taker import CacheTaker, Order
from fd_router.devtools.mock.pd.transfer_rules import NIXL, Ticket, TransferRules

FAILED = "Internal server error"
"""What vLLM says of a cache that can't be fetched. Why, only its log tells."""


class KeepingGeneration(Generation):
    """Keeps the cache under the ticket's key, with NixlConnector under the id that its answer tells."""

    __slots__ = ("_depot", "_key", "_rules", "_ticket")

    def __init__(
        self, ticket: Ticket, rules: TransferRules, depot: CacheDepot, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._ticket = ticket
        self._rules = rules
        self._depot = depot
        self._key = ticket.key or f"{self.engine_id}-{id(self):08x}"

    def on_token(self, token: Token) -> None:
        """The prefill is done."""
        fault = self._fault
        if not self.is_done and (fault is None or fault.kind not in ("error_event", "cut_mid_body")):
            self._depot.keep(self._key, Cache(token.run.prompt.tokens, token.run.cached_tokens, self._ticket.digest))
            if fault is not None and fault.kind == "kv_lost":
                self._depot.drop(self._key, "lost")
        super().on_token(token)

    def on_gone(self) -> None:
        """The client left: the cache is of no use."""
        super().on_gone()
        self._depot.drop(self._key, "given up")

    def abort(self) -> None:
        """Stop on demand."""
        super().abort()
        self._depot.drop(self._key, "aborted")

    def fail(self, message: str) -> None:
        """End with an error."""
        super().fail(message)
        self._depot.drop(self._key, "never made")

    def _whole_answer(self) -> bytes:
        body = super()._whole_answer()
        if self._rules.protocol != NIXL:
            return body
        told = {
            "do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": [[1]],
            "remote_engine_id": self._rules.engine_id, "remote_request_id": self._key,
            "remote_host": self._rules.host, "remote_port": self._rules.port, "tp_size": 1,
        }  # fmt: skip
        return body[:-1] + b',"kv_transfer_params":' + msgspec.json.encode(told) + b"}"


class TakingGeneration(Generation):
    """Takes its cache from prefill's side channel, and fails when it isn't there. A stream's head doesn't wait."""

    __slots__ = ("_fail_secs", "_order", "_taker", "_ticket")

    def __init__(self, ticket: Ticket, taker: CacheTaker, fail_secs: float, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ticket = ticket
        self._taker = taker
        self._fail_secs = fail_secs
        self._order: Order | None = None

    def start(self) -> None:
        """Begin the answer, and fetch the cache."""
        if self.is_done:
            return
        ticket = self._ticket
        if not ticket.host:
            super().start()
            return
        taking = Taking(ticket.key, ticket.engine_id)
        self._order = self._taker.take(ticket.host, ticket.port, taking, self._on_cache)

    def _on_cache(self, cache: Cache | None, trouble: str) -> None:
        self._order = None
        if self.is_done:
            return
        if cache is None:
            asyncio.get_running_loop().call_later(self._fail_secs, self._give_up, trouble)
        elif cache.digest != self._ticket.digest:
            self._give_up("it is the cache of another prompt")
        else:
            self.prefilled = cache.cached_tokens
            super().start()

    def _give_up(self, trouble: str) -> None:  # noqa: ARG002
        if not self.is_done:
            self.fail(FAILED)

    def _end(self) -> None:
        super()._end()
        if self._order is not None:
            self._order.cancel()
            self._order = None
