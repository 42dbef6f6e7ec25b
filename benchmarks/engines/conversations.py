"""Traffic: conversations in rounds. In each round every one says something more, behind all that was said before.

What is said is made from fixed seeds, the assistant's turns too, so that any run sends the same prompts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
from bench import MODEL

WORDS = (
    *(
        "return",
        "value",
        "index",
        "string",
        "object",
        "number",
        "result",
        "list",
        "default",
        "error",
        "check",
        "import",
    ),
    *("class", "function", "module", "path", "file", "name", "line", "text", "encode", "buffer", "stream", "socket"),
)


class Conversations(NamedTuple):
    """``system``: words that all begin with; ``turn``: that a turn has at most, and half of them at least."""

    number: int
    rounds: int
    system: int
    turn: int
    grow: bool = True  # else the first turns are sent again in each round
    at_once: int = 1

    def body(self, conversation: int, last: int) -> dict[str, Any]:
        """Return the request of a conversation in its round ``last``."""
        messages = [{"role": "system", "content": _said((-1, 0), self.system)}] if self.system else []
        for place in range(2 * last + 1 if self.grow else 1):
            rng = random.Random(f"{conversation} {place} length")
            words = _said((conversation, place), rng.randint(self.turn // 2, self.turn))
            messages.append({"role": ("user", "assistant")[place % 2], "content": words})
        return {"model": MODEL, "messages": messages, "max_tokens": 1, "temperature": 0}

    def bodies(self, last: int) -> Sequence[dict[str, Any]]:
        """Return the requests of round ``last``, in its own order."""
        order = list(range(self.number))
        random.Random(f"round {last}").shuffle(order)
        return [self.body(conversation, last) for conversation in order]

    def play(self, url: str) -> None:
        """Send all rounds to ``url``. Raises httpx.HTTPError when a request fails."""
        with httpx.Client(base_url=url, timeout=120) as client, ThreadPoolExecutor(self.at_once) as pool:
            for last in range(self.rounds):
                list(pool.map(lambda body: ask(client, body), self.bodies(last)))


def ask(client: httpx.Client, body: dict[str, Any]) -> dict[str, int]:
    """Send one; return tokens of its prompt, and how many of them were cached. Raises httpx.HTTPError."""
    answer = client.post("/v1/chat/completions", json=body)
    answer.raise_for_status()
    usage = answer.json()["usage"]
    details = usage.get("prompt_tokens_details") or {}
    return {"prompt": usage["prompt_tokens"], "cached": details.get("cached_tokens") or 0}


def _said(seed: tuple[int, int], words: int) -> str:
    return " ".join(random.Random(f"{seed}").choices(WORDS, k=words))
