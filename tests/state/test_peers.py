from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fd_router.state.peers import Peers
from fd_router.state.rendezvous import chosen

names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@given(names, st.text(max_size=10))
def test_all_who_know_the_same_processes_choose_the_same_one(processes, name):
    owners = {one for one in processes if _peers(one, processes).owns(name)}
    assert owners == {chosen(name, processes)}


def _peers(own, processes):
    peers = Peers(own, Clock(), 3.0)
    for process in processes:
        if process != own:
            peers.hear(process)
    return peers


@given(names, st.lists(st.text(max_size=5), max_size=30))
def test_when_one_goes_only_its_own_moves(processes, things):
    gone, *left = processes
    for thing in things:
        before = chosen(thing, processes)
        assert not left or before == gone or chosen(thing, left) == before


def test_work_is_spread():
    processes = ["a", "b", "c", "d"]
    counts = [sum(chosen(f"10.0.0.{n}:80", processes) == process for n in range(250)) for process in processes]
    assert max(counts) < 100


def test_one_that_is_not_heard_of_is_gone_after_its_lease_and_its_work_is_anothers():
    clock = Clock()
    peers = Peers("a", clock, 3.0)
    assert peers.hear("b")
    assert not peers.hear("b")
    names = [f"i{n}" for n in range(50)]
    assert 0 < sum(map(peers.owns, names)) < 50
    clock.now += 3.1
    assert peers.expire() == ["b"]
    assert all(map(peers.owns, names))
    assert (len(peers), peers.size) == (1, 2)  # as many as there were: nobody knows whether the bus or b is away
    peers.settle()
    assert peers.size == 1


def test_a_process_that_is_late_again_and_again_finds_out_who_is_dead():
    now = 100.0
    peers = Peers("a", lambda: now, 3.5)
    peers.hear("b")
    now += 60.0
    peers.excuse(60.0)
    assert peers.expire() == []
    gone = []
    for _ in range(6):
        now += 1.1
        peers.excuse(1.1)
        gone += peers.expire()
    assert gone == ["b"]
