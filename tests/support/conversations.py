"""A made-up trace of conversations in Mooncake's format: turns whose prompts begin with those before them."""

from __future__ import annotations

import json
import random
from pathlib import Path


def write_trace(path: Path, *, requests: int, every_ms: float, growth: float = 4, seed: int = 1) -> None:
    """Write ``requests`` requests, on average ``every_ms`` apart.

    A turn adds some 1 + ``growth`` blocks of 512 tokens to what stood before it: prompts have 4,600 tokens on average
    with 4, 2,000 with 1.
    """
    rng = random.Random(seed)
    sessions: list[list[int]] = []
    lines, at, fresh = [], 0.0, 0
    for _ in range(requests):
        at += rng.expovariate(1 / every_ms)
        if sessions and rng.random() < 0.6:
            ids = rng.choice(sessions[-20:])
        else:
            ids = [0]
            sessions.append(ids)
        added = min(40, 1 + int(rng.expovariate(1 / growth)))
        ids.extend(range(fresh + 1, fresh + 1 + added))
        fresh += added
        length = len(ids) * 512 - rng.randrange(512)
        lines.append(
            json.dumps(
                {"timestamp": round(at), "input_length": length, "output_length": rng.randrange(2, 12), "hash_ids": ids}
            )
        )
    path.write_text("\n".join(lines) + "\n")
