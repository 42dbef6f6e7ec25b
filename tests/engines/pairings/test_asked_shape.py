"""What a body asks for, of whatever types it is."""

import pytest

from fd_router.engines.pairings.asked_shape import read_shape
from fd_router.errors import BadRequestError


@pytest.mark.parametrize(
    ("body", "choices", "prompts", "is_list"),
    [
        (b'{"prompt":"a"}', 1, 1, False),
        (b'{"prompt":["a"]}', 1, 1, True),
        (b'{"prompt":["a","b"],"n":2}', 2, 2, True),
        (b'{"prompt":[1,2,3]}', 1, 1, False),
        (b'{"prompt":[[1,2],[3]]}', 1, 2, True),
        (b'{"prompt":[]}', 1, 1, False),
        (b'{"prompt":null}', 1, 1, False),
        (b'{"messages":[{"content":"a"}],"n":3}', 3, 1, False),
        (b'{"prompt":"a","best_of":4}', 4, 1, False),
        (b'{"prompt":"a","n":"2"}', 2, 1, False),
        (b'{"prompt":"a","n":2.0,"best_of":"many"}', 2, 1, False),
        (b'{"text":["a","b"],"sampling_params":{"n":2}}', 2, 2, True),
        (b'{"input_ids":[[1],[2],[3]]}', 1, 3, True),
        (b'{"prompt":["a","\\ud800"],"x":NaN}', 1, 2, True),
    ],
)
def test_how_many(body, choices, prompts, is_list):
    shape = read_shape(body)
    assert (shape.choices, shape.prompts, shape.has_prompt_list) == (choices, prompts, is_list)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"prompt_logprobs":0}', True),
        (b'{"echo":true,"logprobs":1}', True),
        (b'{"echo":true}', False),
        (b'{"logprobs":5}', False),
        (b'{"return_logprob":true}', False),
        (b'{"return_logprob":true,"logprob_start_len":0}', True),
        (b'{"return_logprob":true,"logprob_start_len":-1}', False),
        (b'{"return_logprob":[true],"logprob_start_len":[-1]}', True),
    ],
)
def test_logprobs_of_the_prompt(body, wanted):
    assert read_shape(body).wants_prompt_logprobs is wanted


@pytest.mark.parametrize("body", [b"[]", b"{", b'"a"', b"\xff"])
def test_what_is_no_object(body):
    with pytest.raises(BadRequestError):
        read_shape(body)
