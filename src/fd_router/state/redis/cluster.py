"""A cluster: which of its nodes has what this set keeps, which is all on one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

Place = tuple[str, int]
"""A host and a port."""


class Cluster:
    """Asks nodes which one has ``key``: those at the URL, and those that they told of, which may have outlived them.

    The library's own client of clusters is asked for that alone. A message costs it two questions, the first of which
    is where the keys stand in the command; here they are all in one slot, so a plain client speaks to its owner, and
    when the owner is another one it says so (MOVED), or is gone.
    """

    def __init__(self, listed: Sequence[Place], key: str, settings: Mapping[str, Any]) -> None:
        self._listed = listed
        self._key = key
        self._settings = settings
        self._told: Sequence[Place] = ()

    async def find_owner(self) -> Place:
        """Return where the key is. Raises the library's errors."""
        module: Any = import_module("redis.asyncio.cluster")
        nodes = [module.ClusterNode(host, port) for host, port in dict.fromkeys((*self._listed, *self._told))]
        client = module.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **self._settings)
        try:
            await client.initialize()
            self._told = [(node.host, node.port) for node in client.get_nodes()]
            owner = client.get_node_from_key(self._key)
            return owner.host, owner.port
        finally:
            await client.aclose()

    def __repr__(self) -> str:
        return f"<Cluster of {len(self._told)} nodes>"
