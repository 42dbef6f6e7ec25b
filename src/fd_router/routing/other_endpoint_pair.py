"""A request to a generating endpoint beside completions, for a pair of an engine that perhaps doesn't have it."""

from __future__ import annotations

from fd_router.engines.pairing import PairedRequest, PairPlan
from fd_router.errors import BadRequestError
from fd_router.instances.instance import Instance
from fd_router.routing.pair import PairRequest
from fd_router.scheduling.reservation import Reservation


class OtherEndpointPairRequest(PairRequest):
    """Is refused where no pair of the engine serves its endpoint, instead of being sent to two that don't know it."""

    __slots__ = ()

    def _make_plan(
        self, paired: PairedRequest, prefill: Reservation[Instance], decode: Reservation[Instance]
    ) -> PairPlan:
        path, dialect = self._context.endpoint.path, decode.instance.dialect
        if path in dialect.unpaired_paths:
            raise BadRequestError(
                f"{path}: prefill and decode instances of {dialect.name} don't serve it; send it to mixed ones of an "
                "engine that does, without splitwise mode",
                status=404,
                code="not_paired",
            )
        return super()._make_plan(paired, prefill, decode)
