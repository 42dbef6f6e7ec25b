"""The context of pairs: what every request to a prefill and a decode instance is given."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.instances.instance import Instance
from fd_router.routing.context import RoutingContext
from fd_router.scheduling.reservation import Reservation

SelectPair = Callable[..., tuple[Reservation[Instance] | None, Reservation[Instance]]]
"""(request, keys of instances tried, what to call between the choices, who seeks) → both, counted.

None, and a decode instance: that alone. Raises NoInstanceError.
"""


class PairContext(RoutingContext, frozen=True, kw_only=True, eq=False):
    """What every request to a pair needs."""

    select_pair: SelectPair
    make_id: Callable[[], str]
