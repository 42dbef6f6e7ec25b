"""The engine's prompt: a chat as it stands in the prompt that an engine computes, not its texts alone.

Tools come before the messages. Images, sounds and other parts stand where they are among the texts: a stand-in names
each by its content, in as many words as the part is thought to have tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final

import msgspec

from fd_router.openai.large_prompts import READ_IN_PART
from fd_router.openai.request_fields import Message, RequestFields

TOKENS: Final = (("image", 1024), ("video", 4096), ("audio", 512))
"""Tokens of a part by what its type has in it. Engines compute a token of some 28 × 28 pixels (Qwen-VL, ERNIE-VL), 10
to 25 of a second of sound; how large a picture is can't be told without decoding it."""

OTHER_TOKENS: Final = 1024
"""Tokens of any other part: a document, a file."""

HASHED: Final = 256 * 1024
"""Bytes at either end of a part's content that name it, with its length: all of it where there are no more."""

WORDS: Final = (
    "and", "the", "for", "you", "not", "are", "but", "had", "his", "was", "all", "can", "her", "one", "our", "out",
)  # fmt: skip
"""What stand-ins are made of: with its space each is a token of any tokenizer, and four characters, as tokens are."""

_TEXTS: Final = ("text", "refusal", "thinking")
"""Members that make a part a text, whatever its type is called."""

_BESIDE: Final = frozenset(("type", "cache_control", "detail", "uuid"))
"""Members of a part that aren't its content."""

_QUOTE, _LIST = b'"['

_raw = msgspec.Raw()


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = _raw


class _Chat(msgspec.Struct, gc=False):
    messages: list[_Message] = []


_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_parts = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def chat_prompt(body: bytes, fields: RequestFields, texts: str) -> str:
    """Return the prompt of a chat of which ``fields`` and ``texts`` were read; a very large one goes by these alone."""
    messages = fields.messages or ()
    if len(body) <= READ_IN_PART and any(map(_has_media, messages)):
        with suppress(ValueError, RecursionError):  # of what only the tolerant decoder reads
            texts = " ".join(text for each in _decode_chat(body).messages for text in _texts_in(each.content) if text)
    return with_tools(fields.tools, texts) if messages else texts


def _has_media(message: Message) -> bool:
    content = message.content
    return type(content) is list and any(part.type != "text" for part in content)


def with_tools(tools: object, prompt: str) -> str:
    """Return ``prompt`` behind its tools, JSON values or how they were written."""
    text = msgspec.json.encode(tools).decode("utf-8", "replace")
    return prompt if text in {"", "null", "[]"} else f"{text} {prompt}"


def _texts_in(content: msgspec.Raw) -> Iterable[str]:
    view = memoryview(content)
    first = view[0] if view.nbytes else 0
    if first == _QUOTE:
        yield _decode_text(view).strip()
    elif first == _LIST:
        for part in _decode_parts(view):
            text = next((part[name] for name in _TEXTS if name in part), None)
            yield stand_in(_decode_text(part.get("type", b'""')), part) if text is None else _decode_text(text).strip()


def stand_in(kind: str, part: Mapping[str, Any]) -> str:
    """Return the words that stand for a part of this type: the same for the same content."""
    content = msgspec.json.encode([part[name] for name in sorted(part) if name not in _BESIDE])
    digest = blake2b(content[:HASHED], digest_size=16)
    if len(content) > HASHED:
        digest.update(b"%d %b" % (len(content), content[-HASHED:]))
    words = [WORDS[number] for byte in digest.digest() for number in (byte >> 4, byte & 15)]
    tokens = next((tokens for what, tokens in TOKENS if what in kind), OTHER_TOKENS)
    return " ".join(words * (tokens // len(words)))
