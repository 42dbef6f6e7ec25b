"""Sets of Redis servers, as they are run where none may be missed: a sentinel's, and a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.support.ports import free_port
from tests.support.redis_server import START_SECS, RedisServer

MASTER = "mine"
"""The name by which the sentinel knows its master."""

SLOTS = 16384
"""Of a cluster, by Redis' specification."""


def ask(server: RedisServer, *command: str | int, password: str = "") -> Any:
    """Send a server one command, and return the answer."""
    with Redis(port=server.port, password=password or None, decode_responses=True, socket_timeout=START_SECS) as client:
        return client.execute_command(*command)


@dataclass(frozen=True)
class SentinelSet:
    """A master, its replica, and a sentinel that promotes the replica when the master is silent for 0.3 s."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    @property
    def url(self) -> str:
        """The sentinel's, after one that is down: it is passed over."""
        return f"redis://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}"


@contextmanager
def sentinel_set(password: str, sentinel_password: str) -> Iterator[SentinelSet]:
    """Run the three. ``password`` is the servers', ``sentinel_password`` the sentinel's own."""
    known = ("--requirepass", password, "--masterauth", password, "--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(*known))
        replica = stack.enter_context(RedisServer(*known, "--replicaof", f"127.0.0.1 {master.port}"))
        _until(lambda: ask(replica, "INFO", "replication", password=password)["master_link_status"] == "up")
        sentinel = RedisServer("--sentinel", "--requirepass", sentinel_password)
        watched = {"auth-pass": password, "down-after-milliseconds": 300, "failover-timeout": 1000}
        lines = [f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 1"]
        lines += [f'sentinel {name} {MASTER} "{value}"' for name, value in watched.items()]
        sentinel.configuration = _written(sentinel.folder / "sentinel.conf", lines)
        stack.enter_context(sentinel)
        # From then on it knows the replica, which it asks its master for.
        _until(lambda: len(ask(sentinel, "SENTINEL", "REPLICAS", MASTER, password=sentinel_password)) == 1)
        yield SentinelSet(master, replica, sentinel)


def _written(path: Path, lines: Sequence[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


@dataclass(frozen=True)
class Cluster:
    """Three masters, each with a third of the slots, and a replica of the one that has a key's slot."""

    masters: Sequence[RedisServer]
    owner: RedisServer  # the master with the key's slot
    replica: RedisServer  # the owner's

    @property
    def url(self) -> str:
        """Those of the masters that haven't the key's slot, after one that is down."""
        rest = [f"127.0.0.1:{node.port}" for node in self.masters if node is not self.owner]
        return f"redis://127.0.0.1:{free_port()},{','.join(rest)}"


@contextmanager
def cluster(key: str) -> Iterator[Cluster]:
    """Run one, whose owner of ``key`` is followed by its replica when it is silent for 0.5 s."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                RedisServer(
                    "--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--cluster-port", str(free_port()),
                    "--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0",
                )
            )
            for _ in range(4)
        ]  # fmt: skip
        *masters, replica = nodes
        slots = [SLOTS * part // len(masters) for part in range(len(masters) + 1)]
        for node, first, after in zip(masters, slots, slots[1:], strict=False):
            ask(node, "CLUSTER", "ADDSLOTSRANGE", first, after - 1)
        for node in nodes[1:]:
            port = ask(node, "CONFIG", "GET", "cluster-port")["cluster-port"]
            ask(nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, port)
        slot = ask(nodes[0], "CLUSTER", "KEYSLOT", key)
        owner = next(node for node, after in zip(masters, slots[1:], strict=False) if slot < after)
        identity = ask(owner, "CLUSTER", "MYID")
        _until(lambda: ask(replica, "CLUSTER", "REPLICATE", identity) == "OK")
        _until(lambda: all("cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in nodes))
        _until(lambda: ask(replica, "INFO", "replication")["master_link_status"] == "up")
        _until(lambda: all(len(ask(node, "CLUSTER", "REPLICAS", identity)) == 1 for node in masters))
        yield Cluster(masters, owner, replica)


def _until(holds: Callable[[], bool]) -> None:
    """Wait until it holds, and raises nothing. Raises TimeoutError."""
    end = time.monotonic() + START_SECS
    while True:
        try:
            if holds():
                return
        except (RedisError, KeyError):
            pass
        if time.monotonic() > end:
            raise TimeoutError("the servers never came to know each other")
        time.sleep(0.02)
