"""Topics without a bus: what one gathers another takes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_API
from fd_router.scheduling.prefix.block_hashes import BlockHasher
from fd_router.scheduling.prefix.told_index import AGAIN_SECONDS, ToldPrefixIndex
from fd_router.state.topics.loads import SharedLoads
from fd_router.state.topics.prefixes import SharedPrefixes
from tests.support.fake_log import FakeLog
from tests.support.live import live_config

KEYS = [f"10.0.0.{n}:8000" for n in range(1, 4)]


def entry(key):
    host, port = key.split(":")
    return parse_registration({"role": "mixed", "host_ip": host, "port": int(port)})


class Router:
    def __init__(self, name):
        self.name = name
        self.registry = Registry(clock=lambda: 0.0, log=FakeLog(), live=live_config())
        self.loads = SharedLoads(self.registry)
        for key in KEYS:
            self.registry.register(entry(key), REGISTER_API)

    def tell(self, others, *, whole=False, is_lost=False):
        payload = self.loads.gather(whole=whole)
        if payload is not None and not is_lost:
            for other in others:
                other.loads.take(self.name, msgspec.Raw(payload))


steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from(["acquire", "release", "tell", "lose", "whole", "forget", "leave"]),
    ),
    max_size=60,
)


class World:
    """Three routers, and what each of them really has at each instance."""

    def __init__(self):
        self.routers = [Router(name) for name in "abc"]
        self.held = {(router.name, key): 0 for router in self.routers for key in KEYS}

    def others(self, router):
        return [other for other in self.routers if other is not router]

    def step(self, who, where, what):
        router, key = self.routers[who], KEYS[where]
        instance, held = router.registry.get(key), self.held[router.name, key]
        if what == "acquire":
            instance.acquire(7)
            self.held[router.name, key] += 1
        elif what == "release" and held:
            instance.release(7)
            self.held[router.name, key] -= 1
        elif what == "leave" and not held:
            router.registry.remove(key)
            router.registry.register(entry(key), REGISTER_API)
        elif what == "forget":
            for other in self.others(router):
                other.loads.forget(router.name)
        else:
            router.tell(self.others(router), whole=what == "whole", is_lost=what == "lose")

    def check_own(self):
        for router in self.routers:
            assert all(router.registry.get(key).own_running == self.held[router.name, key] for key in KEYS)

    def check_sums(self):
        for key in KEYS:
            total = sum(self.held[router.name, key] for router in self.routers)
            for router in self.routers:
                instance = router.registry.get(key)
                assert (instance.running, instance.tokens) == (total, 7 * total)


@settings(deadline=None)
@given(steps)
def test_after_a_whole_frame_of_each_every_router_counts_what_all_have(steps):
    world = World()
    for step in steps:
        world.step(*step)
        world.check_own()
    for router in world.routers:
        router.tell(world.others(router), whole=True)
    world.check_sums()
    for router in world.routers:
        for gone in "abc":
            router.loads.forget(gone)
        assert all(router.registry.get(key).running_elsewhere == 0 for key in KEYS)


def test_a_limit_that_others_fill_is_reached_and_left():
    router = Router("a")
    instance = router.registry.get(KEYS[0])
    told = []
    instance.limit, instance.on_limit = 3, lambda _, full: told.append(full)
    instance.acquire(1)
    for count in (1, 2, 5, 2, 1, 0):
        router.loads.take("b", msgspec.Raw(msgspec.msgpack.encode([False, {KEYS[0]: [count, 0]}])))
    assert told == [True, False]
    instance.repair(1)
    assert (instance.own_running, instance.running) == (0, 0)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def index(clock):
    return ToldPrefixIndex(clock, max_blocks=10_000, duration=1800.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab", min_size=4, max_size=24), st.sampled_from("xyz")), max_size=30))
def test_another_index_knows_the_same_prefixes_by_what_it_is_told_and_by_a_snapshot(prompts):
    clock, hasher = Clock(), BlockHasher(2)
    own, told, late = index(clock), index(clock), index(clock)
    topics = [SharedPrefixes(each, "characters/2", lambda _: True) for each in (own, told, late)]
    for prompt, name in prompts:
        clock.now += 1.0
        own.insert(own.match(hasher.of_text(prompt)), name)
        if (payload := topics[0].gather(whole=False)) is not None:
            topics[1].take("p", msgspec.Raw(payload))
    for payload in topics[0].snapshot():
        topics[2].take("p", msgspec.Raw(payload))
    for prompt, _ in prompts:
        known = [_who(each, hasher.of_text(prompt)) for each in (own, told, late)]
        assert known[0] == known[1] == known[2]


def _who(index, keys):
    names = {index.id_of(name): name for name in "xyz"}
    return [(group.depth, {names[holder] for holder in group.holders}) for group in index.match(keys).groups()]


def test_what_is_known_is_not_told_again_at_once():
    clock, hasher = Clock(), BlockHasher(2)
    own = index(clock)
    keys = hasher.of_text("abcdef")
    own.insert(own.match(keys), "x")
    assert own.take_news() == [("x", keys)]
    own.insert(own.match(keys), "x")
    assert own.take_news() == []
    own.insert(own.match(keys), "y")
    assert own.take_news() == [("y", keys)]
    clock.now += AGAIN_SECONDS
    own.insert(own.match(keys), "x")
    assert own.take_news() == [("x", keys)]


@pytest.mark.parametrize(
    "entries", [["other/2", [["x", b"12345678"]]], ["s", [["x", b"123"]]], ["s", [["?", b"12345678"]]]]
)
def test_hashes_of_another_kind_and_of_nobody_are_passed_over(entries):
    own = index(Clock())
    SharedPrefixes(own, "s", lambda name: name == "x").take("p", msgspec.Raw(msgspec.msgpack.encode(entries)))
    assert own.blocks == 0


def test_a_process_that_is_idle_looks_at_no_member_until_it_tells_all() -> None:
    router, is_idle = Router("a"), False
    router.loads = SharedLoads(router.registry, lambda: is_idle)
    instance = router.registry.get(KEYS[0])
    instance.acquire(7)
    assert router.loads.gather(whole=False) is not None
    is_idle = True
    instance.release(7)
    assert msgspec.msgpack.decode(router.loads.gather(whole=False)) == [False, {KEYS[0]: [0, 0]}], "it was told of it"
    instance.acquire(7)  # that nobody knows of
    assert router.loads.gather(whole=False) is None
    assert msgspec.msgpack.decode(router.loads.gather(whole=True)) == [True, {KEYS[0]: [1, 7]}]
    assert router.loads.gather(whole=False) is None
    is_idle = False
    instance.acquire(7)
    assert msgspec.msgpack.decode(router.loads.gather(whole=False)) == [False, {KEYS[0]: [2, 14]}]
