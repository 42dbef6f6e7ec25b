from hypothesis import given
from hypothesis import strategies as st

from fd_router.devtools.engine_model.prefix_cache import PrefixCache


def test_matches_the_leading_blocks_only():
    cache = PrefixCache(1000)
    cache.insert([1, 2, 3], 10)
    assert cache.match([1, 2, 3, 4]) == 3
    assert cache.match([1, 9, 3]) == 1
    assert cache.match([2, 3]) == 2  # the hashes are chained, so this can't happen with real ones
    assert cache.match([9, 1]) == 0
    assert cache.match([]) == 0


def test_evicts_the_least_recently_used_from_the_end_of_its_chain():
    cache = PrefixCache(40)
    cache.insert([1, 2], 10)
    cache.insert([3, 4], 10)
    cache.insert([1, 2], 10)  # used again
    cache.insert([5], 10)
    assert cache.match([3, 4]) == 1
    assert cache.match([1, 2]) == 2
    assert cache.match([5]) == 1


def test_keeps_the_beginning_of_a_prompt_larger_than_the_cache():
    cache = PrefixCache(25)
    cache.insert([1, 2, 3, 4], 10)
    assert cache.match([1, 2, 3, 4]) == 2
    assert cache.used_tokens == 20


def test_a_cache_without_room_holds_nothing():
    cache = PrefixCache(0)
    cache.insert([1, 2], 10)
    assert cache.match([1]) == 0
    assert len(cache) == 0


def test_repr_tells_the_fill():
    cache = PrefixCache(100)
    cache.insert([1], 10)
    assert repr(cache) == "<PrefixCache 1 blocks, 10/100 tokens>"


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 20), max_size=8, unique=True), st.sampled_from([1, 4, 7])), max_size=40)
)
def test_never_holds_more_than_its_capacity_and_counts_right(inserts):
    cache = PrefixCache(20)
    for blocks, block_tokens in inserts:
        cache.insert(blocks, block_tokens)
        assert 0 <= cache.used_tokens <= 20
        assert (cache.used_tokens == 0) == (len(cache) == 0)
        held = cache.match(blocks)
        assert held >= min(len(blocks), 20 // 7)
