"""Asks prefill instances what the two of a pair must know, if their protocol has a question, when they come up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fd_router.engines.pairing import Pairing, Question
from fd_router.errors import UpstreamError, place_of
from fd_router.instances.asking import AsksWhenUp
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.telemetry.contracts import Log

Ask = Callable[[Instance, Question], Awaitable[tuple[int, bytes]]]
"""(instance, question) → status and body. Raises UpstreamError."""

RETRY_SECS = 5.0
"""How long after an answer that doesn't tell it is asked again: its bootstrap server may be up before its engines."""

MAX_CONCURRENT = 16


class PairLearner(AsksWhenUp):
    """Until an instance has answered, it makes no pairs, and is asked again as long as it is healthy."""

    def __init__(self, registry: Registry, ask: Ask, *, log: Log, retry_secs: float = RETRY_SECS) -> None:
        self._registry = registry
        self._ask = ask
        self._log = log
        self._retry_secs = retry_secs
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        super().__init__(registry, most=MAX_CONCURRENT)

    def is_to_be_asked(self, instance: Instance) -> bool:
        """See ``AsksWhenUp``."""
        pairing = _pairing(instance)
        return pairing is not None and pairing.question(instance.registration) is not None

    async def work(self, instance: Instance) -> None:
        """See ``AsksWhenUp``."""
        pairing, trouble = _pairing(instance), ""
        while pairing is not None and instance.takes_new:
            if not (trouble := await self._try(instance, pairing, trouble)):
                return
            with self._under_way.away():  # others are asked meanwhile
                await asyncio.sleep(self._retry_secs)

    async def _try(self, instance: Instance, pairing: Pairing, before: str) -> str:
        """Ask once; return what went wrong, which is told the log unless it is the same as ``before``."""
        question = pairing.question(instance.registration)
        if question is None:
            return ""
        async with self._slots:
            trouble = await self._put(instance, pairing, question)
        if trouble and trouble != before:
            place = f"http://{instance.host}:{question.port}{question.path}"
            self._log.warn(f"{instance.url} makes no pairs yet: {place} doesn't tell its engines: {trouble}")
        return trouble

    async def _put(self, instance: Instance, pairing: Pairing, question: Question) -> str:
        try:
            status, answer = await self._ask(instance, question)
            if status != 200:
                return f"status {status}"
            if pairing.learn(instance.registration, answer):
                self._registry.match_anew(instance)
        except UpstreamError as error:
            return error.detail
        except Exception as error:  # noqa: BLE001  a third party's pairing, or an answer of another kind
            return f"{type(error).__name__} ({place_of(error)})"
        return ""


def _pairing(instance: Instance) -> Pairing | None:
    return instance.dialect.pairing(instance.registration) if instance.role == "prefill" else None
