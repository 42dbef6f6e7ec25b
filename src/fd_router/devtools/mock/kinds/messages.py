"""Anthropic's Messages at a mock instance."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.mock.completions import Answer, Body, Made
from fd_router.devtools.mock.kinds.bodies import body_of, read_asked
from fd_router.errors import HttpError
from fd_router.openai.kinds.messages import anthropic_error_event

_REASONS: Final = {"length": "max_tokens", "stop": "end_turn"}

_encode = msgspec.json.encode


def parse_messages(data: bytes) -> Body:
    """Read a request. Raises BadRequestError."""
    asked = read_asked(data, "messages", "max_tokens")
    return body_of(asked, "system", "messages", limit=asked["max_tokens"])


class MessagesAnswer(Answer):
    """Writes one message."""

    __slots__ = ("_prompt",)

    def __init__(self, answer_id: str, model: str, prompt: Prompt) -> None:
        super().__init__(answer_id, model, chat=True)
        self._prompt = prompt

    def opening(self) -> bytes:
        """Return the events before the first token."""
        message = self._message([], None, {"input_tokens": self._prompt.tokens, "output_tokens": 0})
        block = {"type": "text", "text": ""}
        return _event("message_start", message=message) + _event("content_block_start", index=0, content_block=block)

    def event(self, word: bytes) -> bytes:
        """Return the event for one token."""
        return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": _text(word)})

    def closing(self, finish_reason: str, usage: dict[str, Any] | None) -> bytes:
        """Return the events behind the last token; the usage is always told."""
        delta = {"stop_reason": _REASONS.get(finish_reason), "stop_sequence": None}
        told = {"output_tokens": 0} if usage is None else _usage(usage)
        return (
            _event("content_block_stop", index=0)
            + _event("message_delta", delta=delta, usage=told)
            + _event("message_stop")
        )

    def failure(self, message: str) -> bytes:
        """Return the event of a stream that can't go on."""
        return anthropic_error_event(HttpError(message))

    def whole(self, made: Made) -> bytes:
        """Return the body of an answer that isn't streamed."""
        content = [{"type": "text", "text": _text(made.text)}]
        return _encode(self._message(content, _REASONS.get(made.finish_reason), _usage(made.usage)))

    def _message(self, content: list[Any], reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
        return {
            "id": self.id, "type": "message", "role": "assistant", "content": content, "model": self.model,
            "stop_reason": reason, "stop_sequence": None, "usage": usage,
        }  # fmt: skip


def _event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **members}))


def _text(word: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'"' + word + b'"')


def _usage(usage: dict[str, Any]) -> dict[str, int]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": usage["prompt_tokens"] - cached,
        "output_tokens": usage["completion_tokens"],
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }
