"""What becomes of it when an engine tells its cache's size, and its ranks."""

from __future__ import annotations

from typing import Any

from fd_router.app.caches import Caches
from fd_router.engines.cache_facts import CacheFacts
from fd_router.engines.dialects import Dialects
from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.ranks import Ranks


class Rig:
    def __init__(self) -> None:
        self.index = PrefixIndex(lambda: 0.0)
        self.ranks = Ranks[Instance]()
        self.lines: list[str] = []
        self.caches = Caches(self.index, self.ranks, lambda tokens, blocks: tokens // 64 or blocks, self.lines.append)

    def held(self, name: str, prompts: int) -> int:
        """How many blocks are remembered of so many sent there."""
        for number in range(prompts):
            self.index.insert(self.index.match(number.to_bytes(8, "big")), name)
        return self.index.blocks_of(name)


def instance(dialect: str = "vllm", **told: Any) -> Instance:
    registration = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000, **told})
    return Instance(registration, Dialects().named(dialect))


def test_the_index_remembers_no_more_than_the_cache_holds() -> None:
    rig, one = Rig(), instance()
    rig.caches.on_facts(one, CacheFacts(tokens=640))
    assert rig.held(one.url, 50) == 10


def test_what_isnt_told_limits_nothing() -> None:
    rig, one = Rig(), instance()
    rig.caches.on_facts(one, CacheFacts())
    assert rig.held(one.url, 50) == 50


def test_a_limit_that_was_moved_stays_until_more_is_told_or_it_is_forgotten() -> None:
    rig, one = Rig(), instance()
    rig.caches.on_facts(one, CacheFacts(tokens=640))
    rig.index.set_limit(one.url, 4)
    rig.caches.on_facts(one, CacheFacts(tokens=640))
    assert rig.held(one.url, 50) == 4
    rig.caches.on_lost(one)
    rig.caches.on_facts(one, CacheFacts(tokens=320))
    assert rig.held(one.url, 50) == 5
    rig.caches.on_facts(one, CacheFacts(tokens=640))
    assert rig.held(one.url, 50) == 10


def test_each_rank_has_a_cache_of_its_own() -> None:
    rig, one = Rig(), instance()
    rig.caches.on_facts(one, CacheFacts(tokens=640, ranks=2))
    names = rig.caches.names(one)
    assert names == (one.url, f"{one.url}#rank0", f"{one.url}#rank1")
    assert [rig.held(name, 50) for name in names[1:]] == [10, 10]
    assert rig.lines == [f"{one.url} has 2 data-parallel ranks, each a candidate"]
    rig.caches.on_facts(one, CacheFacts(tokens=640, ranks=2))
    assert len(rig.lines) == 1
    rig.caches.on_lost(one)
    assert [rig.index.blocks_of(name) for name in names] == [0, 0, 0]
    rig.caches.on_removed(one)
    assert rig.caches.names(one) == (one.url,)


def test_the_registration_goes_before_what_is_told() -> None:
    rig = Rig()
    for told, engine, ranks in ((3, 2, 3), (1, 2, 0), (0, 2, 2)):
        one = instance(dp_size=told)
        rig.caches.on_facts(one, CacheFacts(ranks=engine))
        assert len(rig.ranks.of(one)) == ranks


def test_an_engine_that_no_rank_can_be_asked_of_is_one() -> None:
    rig, one = Rig(), instance("openai", dp_size=4)
    rig.caches.note_ranks(one)
    assert rig.ranks.of(one) == ()
