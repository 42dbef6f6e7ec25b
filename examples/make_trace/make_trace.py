"""Makes a trace of logged requests: python make_trace.py requests.jsonl > trace.jsonl

A line of the input is {"time": 1732275600.25, "output_tokens": 120, "body": {"messages": …}}: when the request came
(seconds since any moment), how long its answer was, and the body that the client sent. The trace holds numbers only:
lengths, and ids of blocks of 512 tokens that are counted from 0 as they first occur.

With --tokenizer tokenizer.json (pip install tokenizers) the model's own tokens are counted, else four characters are
one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence

from fd_router.openai.completion import Completion

BLOCK_TOKENS = 512
CHARACTERS_PER_TOKEN = 4


class Blocks:
    """Numbers each block with all that came before it: equal numbers are equal beginnings."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int], int] = {}

    def of(self, pieces: Iterator[Sequence[object]]) -> list[int]:
        """Return the numbers of a prompt's blocks."""
        before, ids = -1, []
        for piece in pieces:
            before = self._numbers.setdefault((before, hash(tuple(piece))), len(self._numbers))
            ids.append(before)
        return ids


def cut(tokens: Sequence[object], size: int) -> Iterator[Sequence[object]]:
    """Cut a prompt into blocks, the last perhaps a shorter one."""
    return (tokens[start : start + size] for start in range(0, len(tokens), size))


def tokens_of(tokenizer: str) -> tuple[Callable[[str], Sequence[object]], int]:
    """Return what cuts a text into pieces, and how many pieces are a token."""
    if not tokenizer:
        return lambda text: text, CHARACTERS_PER_TOKEN
    from tokenizers import Tokenizer  # noqa: PLC0415  only who counts tokens needs it

    encode = Tokenizer.from_file(tokenizer).encode
    return lambda text: encode(text).ids, 1


def main() -> int:
    """Read, number, sort by time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", type=argparse.FileType("rb"))
    parser.add_argument("--tokenizer", default="", help="the model's tokenizer.json")
    arguments = parser.parse_args()
    split, per_token = tokens_of(arguments.tokenizer)
    blocks = Blocks()
    lines = []
    for number, line in enumerate(arguments.requests, 1):
        try:
            entry = json.loads(line)
            prompt = Completion(json.dumps(entry["body"]).encode()).prompt  # as the router's policies see it
            at, output = float(entry["time"]), int(entry["output_tokens"])
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f"{arguments.requests.name}:{number}: {type(error).__name__} {error}; see --help for the form")
        pieces = split(prompt)
        length = max(1, -(-len(pieces) // per_token))
        lines.append((at, length, output, blocks.of(cut(pieces, BLOCK_TOKENS * per_token))))
    lines.sort(key=lambda each: each[0])
    for at, length, output, ids in lines:
        entry = {
            "timestamp": round((at - lines[0][0]) * 1000),
            "input_length": length,
            "output_length": output,
            "hash_ids": ids,
        }
        print(json.dumps(entry))
    return 0


if __name__ == "__main__":
    sys.exit(main())
