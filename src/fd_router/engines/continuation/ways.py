"""The ways in which engines are told what an answer has so far: bodies by token ids, and by text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from fd_router.openai.continuation.event_json import encode
from fd_router.openai.continuation.plan import By
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.openai.json_splice import add_members, drop_members
from fd_router.spliced_body import Body

ByTokens = Callable[[SourceRequest, list[int], list[int]], bytes]
"""(request, the prompt's ids, ids generated) → the body. Raises ValueError when it can't be made."""

ByText = Callable[[SourceRequest, str], bytes]
"""(request, text generated) → the body. Raises ValueError when it can't be made."""

TELLS_IDS: Final = "return_token_ids"
"""The member by which a stream is made to tell its ids."""


class Ways(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's ways. None: it has no such way."""

    chat_by_tokens: ByTokens | None = None
    chat_by_text: ByText | None = None
    completion_by_tokens: ByTokens | None = None
    completion_by_text: ByText | None = None
    media_by_tokens: bool = False  # chats with more than text in them too
    tells_chat_ids: bool = False  # its streams tell ids when they are asked for by ``TELLS_IDS``
    tells_completion_ids: bool = False
    counts_text: bool = False  # its ``/tokenize`` tells how many tokens a text has

    def by_tokens(self, source: SourceRequest) -> ByTokens | None:
        """Return the way by ids for a request."""
        if not source.chat:
            return self.completion_by_tokens
        return self.chat_by_tokens if self.media_by_tokens or not source.has_media else None

    def by_text(self, source: SourceRequest) -> ByText | None:
        """Return the way by text for a request."""
        return self.chat_by_text if source.chat else self.completion_by_text

    def understands(self, other: Ways, source: SourceRequest, by: By, *, exact: bool) -> bool:
        """Return whether an engine with these ways reads the body that one with the ``other`` ones is sent.

        ``exact``: the router asks for ids.
        """
        if by == "tokens":
            return self.by_tokens(source) is other.by_tokens(source)
        if by == "text":
            return self.by_text(source) is other.by_text(source)
        return not exact or self.tells_ids(chat=source.chat) is other.tells_ids(chat=source.chat)

    def tells_ids(self, *, chat: bool) -> bool:
        """Return whether a stream can be made to tell its ids."""
        return self.tells_chat_ids if chat else self.tells_completion_ids


def with_ids(source: SourceRequest, ids: list[int], name: str, value: Any, dropped: Sequence[str] = ()) -> bytes:
    """Make a body that hands ``ids`` over in member ``name``, and asks for those of the answer."""
    changed = {**source.limits_less(len(ids)), name: value, TELLS_IDS: True}
    return source.with_members(changed, ("truncate_prompt_tokens", *dropped))


def prompt_of_ids(source: SourceRequest, prompt: list[int], ids: list[int]) -> bytes:
    """A completion's prompt may be ids, at every engine. A text that is to follow is in those that it told."""
    dropped = ("prompt_token_ids", "completion_token_ids", *(("suffix",) if source.has_suffix else ()))
    return with_ids(source, ids, "prompt", prompt + ids, dropped)


def prompt_of_text(source: SourceRequest, text: str) -> bytes:
    """A completion goes on from its prompt and the text behind it."""
    prompt = source.prompt
    if prompt is None:
        raise ValueError("its prompt is no text")
    return source.with_members({"prompt": msgspec.Raw(encode(prompt + text))})


def final_message(source: SourceRequest, text: str) -> list[msgspec.Raw]:
    """Return the messages with one of the assistant at the end that has the text; a client's own one is lengthened."""
    messages = msgspec.json.decode(source.raw("messages"), type=list[msgspec.Raw])
    last = source.fields["messages"][-1] if messages else {}
    if last.get("role") == "assistant" and source.lengthens_last:
        if not isinstance(last.get("content"), str):
            raise ValueError("the last message is no text")
        return [*messages[:-1], msgspec.Raw(encode({**last, "content": last["content"] + text}))]
    return [*messages, msgspec.Raw(encode({"role": "assistant", "content": text}))]


def limited(source: SourceRequest, tokens: int, body: bytes) -> bytes:
    """Return ``body`` with the answer's limits less the ``tokens`` that it has of the answer."""
    changed = source.limits_less(tokens)
    return SourceRequest(body, chat=source.chat).with_members(changed) if changed else body


PLAIN: Final = Ways(
    completion_by_tokens=prompt_of_ids,
    completion_by_text=prompt_of_text,
)
"""What any engine does that speaks OpenAI's protocol. That has no way to go on with a chat."""


def asking_ids(body: Body) -> Body:
    """Return the body of a request whose answer shall tell its ids. Raises ValueError when it is no JSON object."""
    return add_members(drop_members(body, (TELLS_IDS,)), b'"%b":true' % TELLS_IDS.encode())
