"""Text for the prompts of a trace, which has none: equal prefixes where the trace has them, different ones elsewhere.

A token is a word of three letters and a space, which a usual tokenizer takes for one token too, and the mock instances
for one of four characters.
"""

from __future__ import annotations

from fd_router.devtools.engine_model.prompts import CHARACTERS_PER_TOKEN
from fd_router.devtools.traces.trace import TraceRequest

_WORDS = (
    "the and for are but not you all any can had her was one our out day get has him his how man new now old see two "
    "way who boy did its let put say she too use war big car eye far few got law own pay set sun ten top yes yet add "
    "age ago air art bad bed bit box"
)
_PIECES = tuple(_WORDS[start : start + 3] + " " for start in range(0, len(_WORDS), 4))
_PAIRS = tuple(second + first for first in _PIECES for second in _PIECES)  # by twelve bits, the lower six first
_WORDS_A_NAME = 8  # 48 bits: no two of a million blocks are alike
_MASK = (1 << 64) - 1


def text_of(request: TraceRequest) -> str:
    """Return the prompt: for each token four characters, less the last space."""
    size = request.block_tokens
    ids = request.hash_ids
    missing = -(-request.input_tokens // size) - len(ids)
    if missing:  # the trace doesn't say what is there, so nobody else has it
        ids = [*ids, *[-(request.number << 20) - place for place in range(1, missing + 1)]]
    repeats = -(-size // _WORDS_A_NAME)
    width = size * CHARACTERS_PER_TOKEN
    blocks = [(_name(each) * repeats)[:width] for each in ids]
    return "".join(blocks)[: request.input_tokens * CHARACTERS_PER_TOKEN - 1]


def _name(hash_id: int) -> str:
    mixed = (hash_id * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed ^= mixed >> 27
    pairs = _PAIRS
    return pairs[mixed & 4095] + pairs[mixed >> 12 & 4095] + pairs[mixed >> 24 & 4095] + pairs[mixed >> 36 & 4095]
