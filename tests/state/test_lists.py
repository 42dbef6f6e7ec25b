"""Who probes what lists name: one of those that list the same, and always somebody of those who know it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_API, discovery
from fd_router.state.peers import Peers
from fd_router.state.topics.lists import SharedLists
from tests.support.fake_log import FakeLog
from tests.support.live import live_config

PORTS = range(1, 40)


class Process:
    def __init__(
        self, name: str, all_names: Sequence[str], listed: Sequence[int], registered: Sequence[int] = ()
    ) -> None:
        self.name = name
        self.registry = Registry(clock=lambda: 0.0, log=FakeLog(), live=live_config())
        peers = Peers(name, lambda: 0.0, 3.5)
        for other in all_names:
            if other != name:
                peers.hear(other)
        self.lists = SharedLists(self.registry, peers)
        for ports, source in ((listed, discovery("x", 0)), (registered, REGISTER_API)):
            for port in ports:
                entry = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": port})
                self.registry.register(entry, source)

    def owned(self) -> set[int]:
        return {instance.port for instance in self.registry.all() if self.lists.owns(instance.key)}


def tell(*processes: Process) -> None:
    for one in processes:
        payload = one.lists.gather(whole=True)
        for other in processes:
            if other is not one and payload is not None:
                other.lists.take(one.name, msgspec.Raw(payload))


def fleet(*listed: Sequence[int], registered: Sequence[int] = ()) -> list[Process]:
    names = [f"router-{number}" for number in range(len(listed))]
    return [Process(name, names, own, registered) for name, own in zip(names, listed, strict=True)]


def test_whose_lists_are_the_same_share_the_probes() -> None:
    processes = fleet(PORTS, list(reversed(PORTS)), PORTS)
    assert all(process.owned() == {*PORTS} for process in processes), "nobody has told yet"
    tell(*processes)
    shares = [process.owned() for process in processes]
    assert set().union(*shares) == {*PORTS}
    assert sum(map(len, shares)) == len(PORTS)


def test_who_knows_others_probes_them_himself() -> None:
    """One whose discovery fails knows nothing of what falls to it."""
    processes = fleet(PORTS, PORTS, ())
    tell(*processes)
    shares = [process.owned() for process in processes]
    assert shares[0] | shares[1] == {*PORTS}
    assert (shares[0] & shares[1], shares[2]) == (set(), set())


@pytest.mark.parametrize("listed", [range(1, 20), ()])
def test_what_registered_itself_falls_to_any(listed: Sequence[int]) -> None:
    processes = fleet(range(1, 20), listed, registered=range(100, 140))
    tell(*processes)
    shares = [process.owned() for process in processes]
    assert set().union(*shares) == {*range(1, 20), *range(100, 140)}
    assert shares[0] & shares[1] == set()


def test_what_changed_is_told_and_who_is_gone_counts_no_more() -> None:
    one, two = fleet(PORTS, PORTS)
    tell(one, two)
    two.registry.remove("10.0.0.1:1")
    tell(one, two)
    assert one.owned() == {*PORTS}
    for port in PORTS[1:]:
        two.registry.remove(f"10.0.0.1:{port}")
    assert two.lists.gather(whole=False) is None
    assert two.lists.gather(whole=True) == msgspec.msgpack.encode(0)
    assert two.lists.gather(whole=True) is None, "nothing is listed"
    one.lists.forget("router-1")
    assert repr(one.lists) == "<SharedLists, 0 others told of theirs>"
