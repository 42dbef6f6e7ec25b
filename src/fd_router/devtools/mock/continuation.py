"""What a request has of this very answer already, since another instance broke off: it is checked, and gone on from."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from fd_router.devtools.mock.completions import Body, Words, own_ids, prompt_text, token_id
from fd_router.devtools.mock.told_ids import ToldIds, check_wish

PROMPT_IDS = 1_000_000
"""From here on are the ids of prompts; those of answers are below."""

Protocol = Literal["chat", "text", ""]
"""Of the endpoints whose answers can be gone on with."""

_SOMEBODY = re.compile(r"mock-[0-9]+\Z")


class Beginning(msgspec.Struct, frozen=True):
    """So many ``tokens`` of the answer are in the prompt; ``flaw``: what is wrong with them, "" if they are right."""

    tokens: int = 0
    flaw: str = ""


def beginning_of(body: Body, words: Words, protocol: Protocol) -> Beginning:
    """Find what of the answer a request has in its prompt."""
    if not protocol:
        return Beginning()
    chat = protocol == "chat"
    if ids := own_ids(body):
        return _of_ids(ids)
    if chat and body.continue_final_message and body.messages:
        content = body.messages[-1].content
        return _of_text(content if isinstance(content, str) else "", words, is_sure=True)
    if not chat and isinstance(body.prompt, str):
        return _of_text(body.prompt, words, is_sure=False)
    return Beginning()


def told_ids(body: Body, dialect: str, tokens: int, *, chat: bool) -> ToldIds | None:
    """Return how ids are told, if they shall be. Text has any, but the same ones for the same text.

    Raises BadRequestError where the engine refuses.
    """
    if not body.return_token_ids or dialect == "openai":
        return None
    check_wish(dialect, chat=chat, stream=body.stream is True)
    first = PROMPT_IDS + zlib.crc32(prompt_text(body).encode("utf-8", "replace"))
    return ToldIds(own_ids(body) or [first + number for number in range(tokens)], dialect, chat=chat)


def _of_ids(ids: Sequence[int]) -> Beginning:
    start = len(ids)
    while start and ids[start - 1] < PROMPT_IDS:
        start -= 1
    if not start:
        return Beginning()  # a client's own ids
    given = [*ids[start:]]
    if given != [token_id(number) for number in range(1, len(given) + 1)]:
        return Beginning(len(given), f"a token was lost or doubled: {given[-8:]}")
    return Beginning(len(given))


def _of_text(text: str, words: Words, *, is_sure: bool) -> Beginning:
    """Find the words of the story at the end of ``text``, behind whatever name.

    Not ``is_sure``: it may be a prompt that is only like it.
    """
    at = text.find(words.first)
    while at >= 0:
        if (number := words.count(text[at:])) is not None:
            return Beginning(1 + number)
        at = text.find(words.first, at + 1)
    if _SOMEBODY.search(text) or text.endswith(words.name):
        return Beginning(1)
    return Beginning(0, f"no beginning of the answer: …{text[-40:]!r}" if is_sure and text else "")
