"""The endpoints of a mock instance that generate: how each reads its body and writes its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import msgspec

from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.mock.completions import Answer, Body, parse_body
from fd_router.devtools.mock.continuation import Protocol
from fd_router.devtools.mock.kinds.generate import GenerateAnswer, parse_generate
from fd_router.devtools.mock.kinds.messages import MessagesAnswer, parse_messages
from fd_router.devtools.mock.kinds.responses import ResponsesAnswer, parse_responses

MakeAnswer = Callable[[str, str, Prompt], Answer]
"""(id, model, prompt) → what writes the answer."""


class GeneratingKind(msgspec.Struct, frozen=True):
    """One of them. ``prefix`` begins the ids of its answers."""

    prefix: str
    parse: Callable[[bytes], Body]  # raises BadRequestError
    make_answer: MakeAnswer
    tells_usage: bool = True  # of a stream; else only to who asks for it
    protocol: Protocol = ""


def _chat(answer_id: str, model: str, prompt: Prompt) -> Answer:  # noqa: ARG001
    return Answer(answer_id, model, chat=True)


def _completion(answer_id: str, model: str, prompt: Prompt) -> Answer:  # noqa: ARG001
    return Answer(answer_id, model, chat=False)


KINDS: Final[Mapping[str, GeneratingKind]] = MappingProxyType({
    "/v1/chat/completions": GeneratingKind("chatcmpl-", partial(parse_body, chat=True), _chat, False, "chat"),
    "/v1/completions": GeneratingKind("cmpl-", partial(parse_body, chat=False), _completion, False, "text"),
    "/v1/responses": GeneratingKind("resp_", parse_responses, ResponsesAnswer),
    "/v1/messages": GeneratingKind("msg_", parse_messages, MessagesAnswer),
    "/generate": GeneratingKind("", parse_generate, GenerateAnswer),
})  # fmt: skip
"""By path."""
