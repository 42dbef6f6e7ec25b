"""A router whose instances all give the same answer, so that another one can go on with a stream that broke off."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.continuation.keeper import StreamKeeper
from tests.support.exact_engine import TIGHT, ExactEngine, Step, events_of
from tests.support.fake_transport import FakeTransport
from tests.support.rig import STREAM_HEAD, Rig

BODY = json.dumps(
    {"prompt": "Say it:", "stream": True, "return_token_ids": True, "stream_options": {"include_usage": True}}
).encode()
TEXT = json.dumps({"prompt": "Say it:", "stream": True}).encode()


class StreamRig(Rig):
    """Instances that all give the same answer."""

    def __init__(self, instances: int = 3, steps: list[Step] = TIGHT, **settings: Any) -> None:
        super().__init__(instances, **settings)
        self.budget = JournalBudget(1 << 20)
        metrics = self.telemetry.metrics.continuations
        self.keeper = StreamKeeper(self.live, self.budget, metrics, self.timers.time, chat=False)
        self.change(streams=self.keeper)
        self.engine = ExactEngine("openai", steps)
        self.at = 0  # connections that were looked at

    async def resumed(self) -> None:
        """Wait until all streams that broke off are read: many, or long ones, are in slices."""
        for _ in range(100_000):
            if self.keeper.turns.are_over:
                break
            await asyncio.sleep(0)
        await self.settle()

    def newest(self) -> FakeTransport:
        return self.backend.opened[-1]

    async def begin(self, client: FakeTransport, upto: int | None, body: bytes = BODY) -> FakeTransport:
        instance = await self.ask(client, body)
        instance.receive(STREAM_HEAD + self.engine.answer(body, chat=False)[:upto])
        await self.settle()
        return instance

    async def answer_next(self, upto: int | None = None) -> FakeTransport:
        """Answer the request that the newest connection got."""
        await self.resumed()
        instance = self.newest()
        body = instance.written.rpartition(b"\r\n\r\n")[2]
        instance.receive(STREAM_HEAD + self.engine.answer(body, chat=False)[:upto])
        await self.settle()
        return instance

    def metric(self, outcome: str, reason: str) -> int:
        text = self.telemetry.metrics.render().decode()
        found = re.search(rf'continuations_total{{outcome="{outcome}",reason="{reason}"}} (\d+)', text)
        return int(found[1]) if found else 0

    def whole(self, body: bytes = BODY) -> list[dict[str, Any]]:
        return events_of(self.engine.answer(body, chat=False))

    def assert_all_is_given_back(self) -> None:
        self.assert_nothing_is_held()
        assert self.budget.used == 0


def body_of(client: FakeTransport) -> bytes:
    return client.written.partition(b"\r\n\r\n")[2]
