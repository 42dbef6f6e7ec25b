"""OpenAI's Responses at a mock instance: answers as whole or as events, and those that it keeps."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.mock.answers import Handle, respond
from fd_router.devtools.mock.completions import Answer, Body, Made
from fd_router.devtools.mock.http_server import Call
from fd_router.devtools.mock.kinds.bodies import body_of, read_asked
from fd_router.errors import BadRequestError

KEPT: Final = 1000
"""Answers that are kept, the newest."""

_encode = msgspec.json.encode


def parse_responses(data: bytes) -> Body:
    """Read a request. Raises BadRequestError."""
    asked = read_asked(data, "input")
    return body_of(asked, "instructions", "input", limit=asked.get("max_output_tokens"))


class ResponsesAnswer(Answer):
    """Writes one response."""

    __slots__ = ("_made", "_number", "_words")

    def __init__(self, answer_id: str, model: str, prompt: Prompt) -> None:  # noqa: ARG002
        super().__init__(answer_id, model, chat=True)
        self._made = int(time.time())
        self._number = 0  # of events
        self._words: list[bytes] = []

    def opening(self) -> bytes:
        """Return the events before the first token."""
        response = self._response("in_progress", [], None)
        item = self._item("in_progress", None)
        return b"".join((
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._at(), part=_part(b"")),
        ))  # fmt: skip

    def event(self, word: bytes) -> bytes:
        """Return the event for one token."""
        self._words.append(word)
        return self._event("response.output_text.delta", **self._at(), delta=_text(word), logprobs=[])

    def closing(self, finish_reason: str, usage: dict[str, Any] | None) -> bytes:
        """Return the events behind the last token; the usage is always told."""
        text = b"".join(self._words)
        item = self._item("completed", text)
        status = "incomplete" if finish_reason == "length" else "completed"
        return b"".join((
            self._event("response.output_text.done", **self._at(), text=_text(text), logprobs=[]),
            self._event("response.content_part.done", **self._at(), part=_part(text)),
            self._event("response.output_item.done", output_index=0, item=item),
            self._event(f"response.{status}", response=self._response(status, [item], usage)),
        ))  # fmt: skip

    def failure(self, message: str) -> bytes:
        """Return the event of a stream that can't go on."""
        return self._event("error", code="server_error", message=message, param=None)

    def whole(self, made: Made) -> bytes:
        """Return the body of an answer that isn't streamed."""
        status = "incomplete" if made.finish_reason == "length" else "completed"
        return _encode(self._response(status, [self._item("completed", made.text)], made.usage))

    def _event(self, kind: str, **members: Any) -> bytes:
        self._number += 1
        data = {"type": kind, "sequence_number": self._number - 1, **members}
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(data))

    def _at(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self.id}", "output_index": 0, "content_index": 0}

    def _item(self, status: str, text: bytes | None) -> dict[str, Any]:
        content = [] if text is None else [_part(text)]
        return {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, status: str, output: list[Any], usage: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "id": self.id, "object": "response", "created_at": self._made, "status": status, "model": self.model,
            "error": None, "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None, "metadata": None, "output": output, "parallel_tool_calls": True, "temperature": 1.0,
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": None if usage is None else _usage(usage),
        }  # fmt: skip


def _text(word: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'"' + word + b'"')


def _part(text: bytes) -> dict[str, Any]:
    return {"type": "output_text", "text": _text(text), "annotations": [], "logprobs": None}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }


class KeptResponses:
    """The answers that are kept, as far as a mock instance must know of them: that they are there, and their status."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, str] = OrderedDict()

    def routes(self) -> Mapping[str, Mapping[str, Handle]]:
        """Return what can be asked about them."""
        path = "/v1/responses/{id}"
        return {
            path: {
                "GET": lambda call: respond(call, self.show(_id_in(call))),
                "DELETE": lambda call: respond(call, self.delete(_id_in(call))),
            },
            f"{path}/cancel": {"POST": lambda call: respond(call, self.show(_id_in(call), "cancelled"))},
        }

    def check_previous(self, data: bytes) -> None:
        """Raise BadRequestError (404) for a request that goes on from an answer that isn't there."""
        previous = read_asked(data).get("previous_response_id")
        if isinstance(previous, str) and previous:
            self._model_of(previous)

    def keep(self, answer_id: str, model: str) -> None:
        """Keep an answer."""
        self._models[answer_id] = model
        if len(self._models) > KEPT:
            self._models.popitem(last=False)

    def show(self, answer_id: str, status: str = "completed") -> dict[str, Any]:
        """Return an answer that was kept. Raises BadRequestError (404)."""
        answer = ResponsesAnswer(answer_id, self._model_of(answer_id), Prompt(1, (), 1))
        whole: dict[str, Any] = msgspec.json.decode(answer.whole(Made(b"", "stop", _NO_USAGE)))
        return whole | {"status": status}

    def delete(self, answer_id: str) -> dict[str, Any]:
        """Forget an answer. Raises BadRequestError (404)."""
        self._model_of(answer_id)
        del self._models[answer_id]
        return {"id": answer_id, "object": "response.deleted", "deleted": True}

    def _model_of(self, answer_id: str) -> str:
        model = self._models.get(answer_id)
        if model is None:
            raise BadRequestError(f"Response with id '{answer_id}' not found.", status=404)
        return model


def _id_in(call: Call) -> str:
    return call.request.path.split("/")[3]


_NO_USAGE: Final = {
    "prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens": 0, "total_tokens": 0,
}  # fmt: skip
