"""Keys name prefixes: the same in every process, whatever follows, and different where texts differ."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.scheduling.prefix import block_hashes
from fd_router.scheduling.prefix.block_hashes import MAX_BLOCKS, BlockHasher

MASK = (1 << 64) - 1
SIZES = [1, 2, 3, 4, 6, 8, 16, 64]
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("abcé漢😀\0"), max_size=200)


def keys_of(keys: bytes) -> list[bytes]:
    return [keys[at : at + 8] for at in range(0, len(keys), 8)]


def avalanche(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def odd(stream: int, place: int) -> int:
    return avalanche(((stream << 56 | 1) + place) * 0x9E3779B97F4A7C15 & MASK) | 1


def words_of(block: str) -> tuple[int, list[int]]:
    """Return the stream of multipliers and the words, as the module's text defines them."""
    if max(map(ord, block)) >= 256:
        return 2, list(map(ord, block))
    raw = block.encode("latin-1")
    size = next(size for size in (8, 4, 2, 1) if len(raw) % size == 0)
    words = [int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size)]
    return 1, [word ^ word >> 32 for word in words] if size == 8 else words


def slow_keys(text: str, size: int) -> list[bytes]:
    """Do the same with plain integers, block after block."""
    total, keys = 0, []
    for number in range(len(text) // size):
        stream, words = words_of(text[number * size : (number + 1) * size])
        total += sum(word * odd(stream, number * len(words) + place) for place, word in enumerate(words))
        keys.append((total + odd(3, number) & MASK).to_bytes(8, "little"))
    return keys


@pytest.mark.parametrize("size", SIZES)
@given(text=TEXTS)
def test_the_vectors_compute_what_is_defined(size: int, text: str) -> None:
    assert keys_of(BlockHasher(size).of_text(text)) == slow_keys(text, size)


def test_the_keys_are_the_same_in_every_process_and_version() -> None:
    hasher = BlockHasher(4)
    assert hasher.of_text("abcdefgh").hex() == "20d7eeef4bbb3bc385fb307b1a07ba79"
    assert hasher.of_text("abcd漢字漢字").hex() == "20d7eeef4bbb3bc3180f471feb263503"
    assert hasher.of_tokens(array("I", [1, 2, 3, 4, 99999, 0, 0, 7])).hex() == "4d90274c1e8496dd85fe813cbdefdb86"


@given(text=TEXTS, more=TEXTS)
def test_what_follows_changes_no_key_before_it(text: str, more: str) -> None:
    hasher = BlockHasher(4)
    keys = hasher.of_text(text)
    assert hasher.of_text(text + more).startswith(keys)


def test_a_partial_last_block_is_left_out() -> None:
    hasher = BlockHasher(4)
    assert [len(keys_of(hasher.of_text("x" * length))) for length in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]
    assert [len(hasher.of_tokens(array("I", [1] * length))) for length in (0, 3, 4, 7, 8)] == [0, 0, 8, 8, 16]
    assert hasher.of_text("abcdxyz") == hasher.of_text("abcd")


def test_equal_blocks_at_different_places_have_different_keys() -> None:
    for text in ("\0" * 4000, "abcd" * 1000, "漢" * 4000):
        keys = keys_of(BlockHasher(4).of_text(text))
        assert len(set(keys)) == len(keys) == 1000


@pytest.mark.parametrize("size", [4, 8, 64])
def test_small_differences_change_all_keys_from_there_on(size: int) -> None:
    rng = random.Random(size)
    hasher = BlockHasher(size)
    for _ in range(200):
        text = "".join(rng.choices("abcdefé漢"[: rng.choice([6, 7, 8])], k=10 * size))
        place = rng.randrange(len(text))
        other = text[:place] + chr(ord(text[place]) ^ 1 << rng.randrange(8)) + text[place + 1 :]
        same = [one == two for one, two in zip(*map(keys_of, map(hasher.of_text, (text, other))), strict=True)]
        assert same == [True] * (place // size) + [False] * (10 - place // size)


def test_top_bits_of_two_words_do_not_cancel_out() -> None:
    text = "a" * 64
    other = text[:7] + "á" + text[8:15] + "á" + text[16:]
    assert ord("a") ^ ord("á") == 0x80
    assert BlockHasher(64).of_text(text) != BlockHasher(64).of_text(other)


def test_texts_that_differ_only_in_the_last_bytes_of_words_have_keys_of_their_own() -> None:
    """Of a product's bits only those from the lowest different one on change: here the highest eight of 64."""
    rng, hasher, texts = random.Random(8), BlockHasher(64), set()
    while len(texts) < 5000:
        characters = ["a"] * 256
        for place in rng.sample(range(7, 256, 8), 4):
            characters[place] = chr(rng.randrange(256))
        texts.add("".join(characters))
    assert len({hasher.of_text(text)[-8:] for text in texts}) == 5000


def test_order_counts() -> None:
    hasher = BlockHasher(4)
    assert len({hasher.of_text(text)[-8:] for text in ("aaaabbbb", "bbbbaaaa", "abababab", "baaabbba")}) == 4


def test_lone_surrogates_are_code_points_too() -> None:
    assert BlockHasher(4).of_text("abc\ud800") != BlockHasher(4).of_text("abc\ud801")


def test_a_hostile_prompt_costs_no_more_than_the_longest_one_looked_at() -> None:
    assert len(BlockHasher(1).of_text("x" * (MAX_BLOCKS + 5))) == MAX_BLOCKS * 8
    assert len(BlockHasher(1).of_tokens(array("I", [1]) * (MAX_BLOCKS + 5))) == MAX_BLOCKS * 8


def test_a_long_wide_text_has_the_hashes_that_its_beginning_has_and_is_looked_at_in_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "漢字 and latin, é and more " * 40
    for at_once in (1, 3, 7):
        monkeypatch.setattr(block_hashes, "_BLOCKS_AT_ONCE", 1 << 20)
        whole = BlockHasher(8).of_text(text, 5)
        monkeypatch.setattr(block_hashes, "_BLOCKS_AT_ONCE", at_once)
        assert BlockHasher(8).of_text(text, 5) == whole
        assert whole.startswith(BlockHasher(8).of_text(text[:100], 5))
    monkeypatch.setattr(block_hashes, "MAX_WIDE", 80)
    assert BlockHasher(8).of_text(text, 5) == whole[: 10 * 8]


@pytest.mark.parametrize("text", ["a plain text of some length", "漢字 and more, of some length"])
def test_another_seed_makes_other_keys_of_the_same_text(text: str) -> None:
    hasher = BlockHasher(4)
    plain, seeded = keys_of(hasher.of_text(text)), keys_of(hasher.of_text(text, 7))
    assert len(plain) == len(seeded) > 3
    assert not set(plain) & set(seeded)
    assert keys_of(hasher.of_text(text, 7)) == seeded
    ids = array("I", range(20))
    assert not set(keys_of(hasher.of_tokens(ids))) & set(keys_of(hasher.of_tokens(ids, 7)))
    assert hasher.of_text(text, 0) == hasher.of_text(text)
    assert hasher.of_text(text, MASK) != hasher.of_text(text)
