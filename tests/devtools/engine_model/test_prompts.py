from hypothesis import given
from hypothesis import strategies as st

from fd_router.devtools.engine_model.prompts import prompt_from_hash_ids, prompt_from_text, prompt_from_token_ids


def test_one_token_stands_for_four_characters():
    assert prompt_from_text("x" * 40, 2).tokens == 10
    assert prompt_from_text("x" * 41, 2).tokens == 11
    assert prompt_from_text("", 2).tokens == 1


def test_a_partial_block_is_left_out():
    assert len(prompt_from_text("x" * 16, 2).blocks) == 2
    assert len(prompt_from_text("x" * 23, 2).blocks) == 2
    assert prompt_from_text("x" * 7, 2).blocks == []


def test_hashes_chain():
    one, other = prompt_from_text("aaaabbbb", 1), prompt_from_text("ccccbbbb", 1)
    assert one.blocks[1] != other.blocks[1]


def test_token_ids_are_taken_as_they_are():
    prompt = prompt_from_token_ids([1, 2, 3, 4, 5], 2)
    assert prompt.tokens == 5
    assert len(prompt.blocks) == 2
    assert prompt.blocks == prompt_from_token_ids([1, 2, 3, 4, 6], 2).blocks
    assert prompt.blocks[0] != prompt_from_token_ids([2, 1], 2).blocks[0]


def test_a_trace_gives_blocks_and_length():
    prompt = prompt_from_hash_ids([7, 8, 9], 512, 1200)
    assert (list(prompt.blocks), prompt.tokens, prompt.block_tokens) == ([7, 8, 9], 1200, 512)
    assert prompt_from_hash_ids([7, 8], 512).tokens == 1024


@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_equal_prefixes_give_equal_hashes(prefix, one, other):
    first, second = prompt_from_text(prefix + one, 1).blocks, prompt_from_text(prefix + other, 1).blocks
    common = len(prefix) // 4
    assert first[:common] == second[:common]
