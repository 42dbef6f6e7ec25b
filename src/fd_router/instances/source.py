"""A source of instances, as its members remember it: who named them, and the rules of membership that follow."""

from __future__ import annotations

import msgspec


class Source(msgspec.Struct, frozen=True):
    """Who names instances, and how high its word is: the member of the highest who names it is an instance.

    A list (``register.yaml``, a discovery) takes out again what it doesn't name any more. The others name an instance
    and never take it back, so their members expire when they have been unhealthy for long.
    """

    name: str  # in the log and in GET /instances
    rank: int
    is_list: bool = True
    is_probed: bool = False  # it has probed what it names, which may be chosen at once
    heeds_bans: bool = True  # what an admin banned can't become a member
    heeds_networks: bool = False  # nor what is in none of access.register-networks


STATE_FILE = Source("state file", 0, is_list=False)
"""Instances that registered themselves before the router was started again."""

PEERS = Source("another router", 0, is_list=False)
"""Instances that another router of the set knows, which aren't known to be well."""

REGISTER_API = Source("register", 1, is_list=False, is_probed=True)
"""Instances that register themselves."""

NAMED = Source("command line", 1_001, heeds_bans=False)
"""Those that the command line names: for as long as the router runs."""

REGISTER_YAML = Source("register.yaml", 1_000, heeds_bans=False)
"""The operator's own list: read at the start, and when somebody asks for a reload."""


def discovery(name: str, position: int, *, heeds_networks: bool = False) -> Source:
    """Return the source of a configured discovery, the first of which (position 0) is the highest."""
    return Source(name, REGISTER_YAML.rank - 1 - position, heeds_networks=heeds_networks)
