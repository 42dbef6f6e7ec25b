"""The whole fleet as a group: every instance, whatever model it serves and in which role."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry


class WholeFleet:
    """For what any instance may know; it is seldom asked, so nothing is kept. Ordered by URL."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @property
    def available(self) -> Sequence[Instance]:
        """Those that are given new requests, saturated ones too."""
        found = {x.url: x for group in self._registry.groups() for x in group.available}
        return tuple(found[url] for url in sorted(found))

    @property
    def is_reserve(self) -> bool:
        """Whether nobody better is left in any of the groups."""
        return all(group.is_reserve for group in self._registry.groups() if group.available)

    @property
    def is_saturated(self) -> bool:
        """Whether some are available, and none of them has headroom."""
        return bool(self.available) and not self.candidates()

    def candidates(self, excluded: Collection[str] = ()) -> Sequence[Instance]:
        """Return those that may be chosen now, without those whose keys are ``excluded``."""
        return tuple(x for x in self.available if not x.is_saturated and x.key not in excluded)
