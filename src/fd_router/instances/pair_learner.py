"""Asks prefill instances what the two of a pair must know, if their protocol has a question, when they come up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fd_router.engines.pairing import Pairing, Question
from fd_router.errors import UpstreamError, place_of
from fd_router.instances.changes import Change, ChangeKind
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.telemetry.contracts import Log

Ask = Callable[[Instance, Question], Awaitable[tuple[int, bytes]]]
"""(instance, question) → status and body. Raises UpstreamError."""

RETRY_SECS = 5.0
"""How long after an answer that doesn't tell it is asked again: its bootstrap server may be up before its engines."""

MAX_CONCURRENT = 16


class PairLearner:
    """Until an instance has answered, it makes no pairs, and is asked again as long as it is healthy."""

    def __init__(self, registry: Registry, ask: Ask, *, log: Log, retry_secs: float = RETRY_SECS) -> None:
        self._registry = registry
        self._ask = ask
        self._log = log
        self._retry_secs = retry_secs
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        registry.on_change(self._on_change)

    async def run(self) -> None:
        """Be there until cancelled; nothing that was asked outlives it."""
        try:
            await asyncio.Event().wait()
        finally:
            tasks = tuple(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_change(self, change: Change) -> None:
        instance = change.instance
        if change.kind not in (ChangeKind.FIRST_UP, ChangeKind.UP) or instance.role != "prefill":
            return
        pairing = instance.dialect.pairing(instance.registration)
        if pairing is None or pairing.question(instance.registration) is None or instance.key in self._under_way:
            return
        work = self._learn(instance, pairing)
        self._under_way[instance.key] = task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _, key=instance.key: self._under_way.pop(key, None))  # type: ignore[misc]

    async def _learn(self, instance: Instance, pairing: Pairing) -> None:
        trouble = ""
        while instance.takes_new:
            if not (trouble := await self._try(instance, pairing, trouble)):
                return
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

    def __repr__(self) -> str:
        return f"<PairLearner {len(self._under_way)} asked>"
