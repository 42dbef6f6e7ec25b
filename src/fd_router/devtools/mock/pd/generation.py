"""Generations of a pair: prefill makes the KV cache and one token, decode waits for the cache and makes the rest."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from fd_router.devtools.engine_model.runs import Token
from fd_router.devtools.mock.completions import token_id
from fd_router.devtools.mock.generation import Generation
from fd_router.devtools.mock.pd.disaggregation import Pairing
from fd_router.devtools.mock.pd.kv_receiver import KvReceiver, Transfer
from fd_router.devtools.mock.pd.kv_sender import KvSender

TRANSFER_SECS = 0.2
"""How long it takes to see that a transfer fails. Real ones, over RDMA, don't fail at once either: the decode
instance's own failure is known before its partner's."""


class PrefillGeneration(Generation):
    """Hands its KV cache over before it answers. A slow head delays only the answer, not the work."""

    __slots__ = ("_handed", "_is_answered", "_is_open", "_is_withdrawn", "_pairing", "_ready", "_sender", "_tp_size")

    def __init__(self, pairing: Pairing, sender: KvSender, tp_size: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pairing = pairing
        self._sender = sender
        self._tp_size = tp_size
        self._is_open = False
        self._handed = False  # the cache is at the decode instance, or on its way there
        self._is_answered = False  # … and the decode instance, or what failed on the way, has said so
        self._is_withdrawn = False
        self._ready: Token | None = None  # the token that waits for the answer's head

    def begin(self) -> None:
        """Work at once; the head may come later."""
        if self._head_secs:
            asyncio.get_running_loop().call_later(self._head_secs, self._open)
        else:
            self._open()
        self._submit()

    def _open(self) -> None:
        if self.is_done:
            return
        self._is_open = True
        super()._open()
        if self._ready is not None:
            super().on_token(self._ready)

    def on_token(self, token: Token) -> None:
        """The prefill is done."""
        if self.is_done:
            return
        if self._fault is not None and self._fault.kind == "error_event":  # an engine that failed has no cache to give
            self.fail("injected fault: error event")
            return
        self._handed = True
        run = token.run
        self._post(
            lambda trouble: self._on_handed(token, trouble),
            tokens=run.prompt.tokens,
            cached_tokens=run.cached_tokens,
            first_token=token_id(self.behind + self.given + 1),
            tp_size=self._tp_size,
        )

    def _on_handed(self, token: Token, trouble: str) -> None:
        self._is_answered = True
        if self._is_withdrawn:
            self._drop()
        if self.is_done:
            return
        if trouble:
            asyncio.get_running_loop().call_later(TRANSFER_SECS, self._give_up, trouble)
        elif self._is_open:
            super().on_token(token)
        else:
            self._ready = token

    def _give_up(self, trouble: str) -> None:
        if not self.is_done:
            self.fail(f"KV transfer failed: {trouble}")

    def on_gone(self) -> None:
        """The client left: the cache isn't needed."""
        super().on_gone()
        self._withdraw()

    def abort(self) -> None:
        """Stop on demand."""
        super().abort()
        self._withdraw()

    def _withdraw(self) -> None:
        """Take the cache back; not before it has arrived, for this message may overtake the other."""
        self._is_withdrawn = self._handed
        if self._is_answered:
            self._drop()

    def _drop(self) -> None:
        self._post(lambda _: None, drop=True)

    def _post(self, on_answer: Any, **fields: Any) -> None:
        info = self._pairing.info
        transfer = Transfer(self._pairing.request_id, self._pairing.prefill, **fields)
        self._sender.post(info.decode_ip, info.decode_connector_port, msgspec.json.encode(transfer), on_answer)


class DecodeGeneration(Generation):
    """Waits for its KV cache. A stream's head doesn't wait."""

    __slots__ = ("_has_cache", "_is_open", "_pairing", "_receiver")

    def __init__(self, pairing: Pairing, receiver: KvReceiver, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pairing = pairing
        self._receiver = receiver
        self._is_open = False
        self._has_cache = False

    def begin(self) -> None:
        """Wait for the cache from now on."""
        super().begin()
        self._receiver.expect(self._pairing.key, self._on_kv)

    def start(self) -> None:
        """Begin the answer; the work too if the cache is here."""
        if self.is_done:
            return
        self._is_open = True
        self._open()
        if self._has_cache:
            self._submit()

    def _on_kv(self, transfer: Transfer | None) -> None:
        if transfer is None:
            self.fail(f"no KV cache came from prefill instance {self._pairing.prefill} in time")
        elif transfer.first_token != token_id(self.behind + self.given + 1):
            self.fail(f"prefill instance {self._pairing.prefill} sent the KV cache of another request")
        elif self._pairing.info.decode_tp_size not in {1, transfer.tp_size}:
            self.fail(f"KV cache for TP size {transfer.tp_size}, mine is {self._pairing.info.decode_tp_size}")
        else:
            self._has_cache = True
            self.prefilled = transfer.cached_tokens
            if self._is_open:
                self._submit()

    def _end(self) -> None:
        super()._end()
        self._receiver.forget(self._pairing.key)
