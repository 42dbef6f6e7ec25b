"""The rig of a disaggregated fleet: prefill and decode instances on fake transports."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from fd_router.engines.dialect import Dialect
from fd_router.engines.fastdeploy.dialect import FastDeployDialect
from fd_router.instances.instance import Instance
from fd_router.routing.pair import PairRequest
from fd_router.routing.pair_context import PairContext
from fd_router.routing.pair_planning import decodes_alone
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.policies.round_robin import RoundRobinPolicy
from fd_router.telemetry.record import RequestRecord
from tests.support.fake_transport import FakeTransport
from tests.support.rig import Rig, make_instance, post
from tests.support.scheduling_fakes import AskedGroup


class PairRig(Rig):
    """``prefills`` are 10.0.0.1 and on, ``decodes`` 10.0.0.101 and on."""

    pair_context: PairContext

    def __init__(
        self,
        prefills: int = 2,
        decodes: int = 2,
        dialect: Dialect | None = None,
        told: Mapping[str, Any] = MappingProxyType({}),
        **settings: Any,
    ) -> None:
        """``told``: what instances register beside role and address."""
        super().__init__(0, **settings)
        dialect = dialect or FastDeployDialect()
        self.prefills = [make_instance(number, "prefill", dialect, told) for number in range(1, prefills + 1)]
        self.decodes = [make_instance(number, "decode", dialect, told) for number in range(101, decodes + 101)]
        self.instances = self.prefills + self.decodes
        self.alone_below = 0  # tokens: see ``decode-alone-below-tokens``
        pairs = PairScheduler[Instance](
            self._side("prefill"),
            self._side("decode"),
            Instance.can_pair_with,
            decodes_alone=decodes_alone,
            alone_below=lambda: self.alone_below,
        )
        shared = {name: getattr(self.context, name) for name in self.context.__struct_fields__ if name != "select"}
        self.pair_context = PairContext(select_pair=pairs.select, make_id=lambda: "made-here", **shared)

    def _side(self, role: str) -> Side[Instance]:
        policy = RoundRobinPolicy(Environment(self.timers.time, random.Random(1)))
        return Side(AskedGroup(lambda: [one for one in self.available() if one.registration.role == role]), policy)

    def _start(self, request: Any, client: Any, record: RequestRecord) -> PairRequest:  # type: ignore[override]
        self.records.append(record)
        return PairRequest(self.pair_context, request, client, record)

    def change(self, **context: Any) -> None:
        self.pair_context = msgspec.structs.replace(self.pair_context, **context)

    async def pair(self, client: FakeTransport, body: bytes, **more: Any) -> tuple[FakeTransport, FakeTransport]:
        """Send a request, and return the connections on which it reached prefill and decode."""
        client.receive(post(body, **more))
        await self.settle()
        return self.reached()

    def reached(self) -> tuple[FakeTransport, FakeTransport]:
        """Return the connections that wait for an answer: prefill's and decode's."""
        busy = [x for x in self.backend.live if not x.protocol.is_idle]  # type: ignore[union-attr]
        prefill, decode = sorted(busy, key=lambda x: int(x.peer[0].rpartition(".")[2]))  # type: ignore[index]
        return prefill, decode
