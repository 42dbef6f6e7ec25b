"""SGLang's ``/generate`` at a mock instance."""

from __future__ import annotations

from typing import Any

import msgspec

from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.mock.completions import Answer, Body, Made
from fd_router.devtools.mock.kinds.bodies import body_of, read_asked
from fd_router.errors import BadRequestError

_encode = msgspec.json.encode


def parse_generate(data: bytes) -> Body:
    """Read a request. Raises BadRequestError."""
    asked = read_asked(data)
    if not asked.get("text") and not asked.get("input_ids"):
        raise BadRequestError("Invalid request: text or input_ids is required")
    sampling = asked.get("sampling_params")
    limit = sampling.get("max_new_tokens") if isinstance(sampling, dict) else None
    body = body_of(asked, "text", limit=limit)
    body.request_id = asked.get("rid")
    if isinstance(ids := asked.get("input_ids"), list):
        body.prompt = ids
    return body


class GenerateAnswer(Answer):
    """Writes one answer: each event has all of the text so far."""

    __slots__ = ("_prompt", "_so_far", "_tokens")

    def __init__(self, answer_id: str, model: str, prompt: Prompt) -> None:
        super().__init__(answer_id, model, chat=False)
        self._prompt = prompt
        self._so_far = b""
        self._tokens = 0

    def event(self, word: bytes) -> bytes:
        """Return the event for one token."""
        self._so_far += word
        self._tokens += 1
        return b"data: %b\n\n" % self._encoded(None, 0)

    def closing(self, finish_reason: str, usage: dict[str, Any] | None) -> bytes:
        """Return the last event, and the end."""
        cached = 0 if usage is None else usage["prompt_tokens_details"]["cached_tokens"]
        return b"data: %b\n\ndata: [DONE]\n\n" % self._encoded(finish_reason, cached)

    def whole(self, made: Made) -> bytes:
        """Return the body of an answer that isn't streamed."""
        self._so_far, self._tokens = made.text, made.usage["completion_tokens"]
        return self._encoded(made.finish_reason, made.usage["prompt_tokens_details"]["cached_tokens"])

    def _encoded(self, finish_reason: str | None, cached: int) -> bytes:
        reason = None if finish_reason is None else {"type": finish_reason}
        meta = {
            "id": self.id, "finish_reason": reason, "prompt_tokens": self._prompt.tokens,
            "completion_tokens": self._tokens, "cached_tokens": cached,
        }  # fmt: skip
        return _encode({"text": msgspec.Raw(b'"' + self._so_far + b'"'), "output_ids": [], "meta_info": meta})
