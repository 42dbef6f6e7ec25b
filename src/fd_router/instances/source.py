"""A source of instances, as its members remember it: who named them, and the rules of membership that follow."""

from __future__ import annotations

import msgspec


class Source(msgspec.Struct, frozen=True):
    """Who names instances. A list (``register.yaml``, a discovery) takes out again what it doesn't name any more.

    The others name an instance and never take it back, so their members expire when they have been unhealthy for long.
    """

    name: str  # in the log and in GET /instances
    is_list: bool = True
    is_probed: bool = False  # it has probed what it names, which may be chosen at once

    @property
    def rank(self) -> int:
        """Whose member an instance is when several sources name it: the highest one's."""
        return 2 * self.is_list + self.is_probed


REGISTER_API = Source("register", is_list=False, is_probed=True)
"""Instances that register themselves."""

STATE_FILE = Source("state file", is_list=False)
"""Instances that registered themselves before the router was started again."""

REGISTER_YAML = Source("register.yaml")
