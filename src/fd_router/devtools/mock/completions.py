"""The OpenAI side of a mock instance: request bodies read, answers and stream events written."""

from __future__ import annotations

import itertools
import time
from typing import Any

import msgspec

from fd_router.devtools.engine_model.prompts import (
    Prompt,
    prompt_from_hash_ids,
    prompt_from_text,
    prompt_from_token_ids,
    text_ids,
)
from fd_router.devtools.mock.told_ids import NO_MEMBERS, Members
from fd_router.errors import UNREADABLE, BadRequestError

DEFAULT_MAX_TOKENS = 16

_STORY = (
    "reads the prompt , looks up its blocks , computes the rest , and writes one word a token , one token a step , "
    "for as long as it was asked to : the queue moves on , the batch is full , and every stream gets its turn ."
)
_FIRST_TOKEN_ID = 1000
STORY_TOKENS = 1 + len(_STORY.split(" "))
"""The tokens after which an instance has told who it is and what it does, and begins again."""


class Part(msgspec.Struct):
    """A content part; only text counts."""

    type: str = ""
    text: str | None = None


class Message(msgspec.Struct):
    """A chat message."""

    role: str
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct):
    """What a streaming client wants beside the text."""

    include_usage: bool = False


class Body(msgspec.Struct):
    """The keys of a completion request that matter here; others are accepted and ignored."""

    model: str | None = None
    messages: list[Message] | None = None
    prompt: str | list[str | int] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    request_id: str | int | None = None
    n: int | None = None
    disaggregate_info: msgspec.Raw = msgspec.Raw()  # only instances with a role read it
    completion_token_ids: list[int] | None = None  # generated before the request was scheduled again
    prompt_token_ids: list[int] | None = None  # the prompt, in the place of text
    return_token_ids: bool | None = None
    continue_final_message: bool | None = None
    kv_transfer_params: dict[str, Any] | None = None  # vLLM's chats take the prompt's ids in it
    enable_thinking: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    mock_hash_ids: list[int] | None = None  # the prompt's chained block hashes, from a trace
    mock_input_length: int | None = None  # … and its length in tokens

    @property
    def thinks(self) -> bool:
        """Whether a chat is to begin with thoughts: FastDeploy's own member, or what most templates read."""
        wish = (self.chat_template_kwargs or {}).get("enable_thinking")
        return self.enable_thinking is True or wish is True

    @property
    def limit(self) -> int | None:
        """The tokens asked for, if the request says it."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


_decode = msgspec.json.Decoder(Body).decode
_encode = msgspec.json.encode


def parse_body(data: bytes, *, chat: bool) -> Body:
    """Read a request. Raises BadRequestError that says what is wrong with it."""
    try:
        body = _decode(data)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"Invalid request: {error}") from None
    except UNREADABLE as error:
        raise BadRequestError(f"Invalid JSON format: {error}") from None
    if chat and not body.messages and not own_ids(body):
        raise BadRequestError("Invalid request: messages is required")
    if not chat and body.prompt is None and not body.prompt_token_ids:
        raise BadRequestError("Invalid request: prompt is required")
    if body.limit is not None and body.limit < 1:
        raise BadRequestError("Invalid request: max_tokens must be at least 1")
    if body.n not in {None, 1}:
        raise BadRequestError("Invalid request: a mock instance gives one choice only")
    return body


def token_id(number: int) -> int:
    """Return the id of the token that is word ``number`` (the first is 1) of every instance's answer."""
    return _FIRST_TOKEN_ID + number - 1


def given_tokens(body: Body) -> int:
    """Return how many tokens were generated before. Raises BadRequestError unless they are the first ones."""
    ids = body.completion_token_ids or []
    if ids != [token_id(number) for number in range(1, len(ids) + 1)]:
        raise BadRequestError("Invalid request: completion_token_ids are not the first tokens of the answer")
    return len(ids)


def prompt_of(body: Body, block_size: int, hash_id_tokens: int) -> Prompt:
    """Return the prompt as the engine sees it: of ``mock_hash_ids`` if given, else of the text or token ids."""
    if body.mock_hash_ids is not None:
        return prompt_from_hash_ids(body.mock_hash_ids, hash_id_tokens, body.mock_input_length)
    prompt = _text_or_ids(body, block_size)
    if body.mock_input_length is not None:
        return Prompt(max(1, body.mock_input_length), prompt.blocks, block_size)
    return prompt


def _text_or_ids(body: Body, block_size: int) -> Prompt:
    ids = own_ids(body)
    return prompt_from_token_ids(ids, block_size) if ids else prompt_from_text(prompt_text(body), block_size)


def own_ids(body: Body) -> list[int]:
    """Return the prompt's ids as they came, none if it is text."""
    if body.prompt_token_ids:
        return body.prompt_token_ids
    if isinstance(ids := (body.kv_transfer_params or {}).get("prompt_token_ids"), list):
        return ids
    if body.messages is None and isinstance(body.prompt, list):
        return [item for item in body.prompt if isinstance(item, int)]
    return []


def ids_of(body: Body) -> list[int]:
    """Return the prompt's ids, of text too: those by which its blocks are known to others."""
    return own_ids(body) or text_ids(prompt_text(body))


def prompt_text(body: Body) -> str:
    """Return the prompt's text."""
    if body.messages is not None:
        return "".join([f"<{each.role}>{_content(each)}" for each in body.messages])
    if isinstance(body.prompt, list):
        return "".join([item for item in body.prompt if isinstance(item, str)])
    return body.prompt or ""


def _content(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join([part.text or "" for part in message.content or ()])


class Words:
    """What an instance says: its name, then words without end; one word a token, ready as JSON text."""

    __slots__ = ("_cycle", "_intro", "first", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.first = f" {_STORY.partition(' ')[0]}"  # behind the name
        story = _spell(_STORY.split(" "))
        self._intro = [_encode(name)[1:-1], *story]
        self._cycle = story

    def token(self, number: int) -> bytes:
        """Return token ``number`` (the first is 1) as the inside of a JSON string."""
        index = number - 1
        if index < len(self._intro):
            return self._intro[index]
        return self._cycle[(index - len(self._intro)) % len(self._cycle)]

    def text(self, tokens: int, behind: int = 0) -> bytes:
        """Return ``tokens`` tokens joined, those ``behind`` the first ones, as the inside of a JSON string."""
        return b"".join([self.token(number) for number in range(behind + 1, behind + tokens + 1)])

    def count(self, text: str) -> int | None:
        """Return how many words of the story, from its first on, ``text`` is; None: it is something else."""
        at = number = 0
        while at < len(text):
            word = self._cycle[number % len(self._cycle)].decode()
            if not text.startswith(word, at):
                return None
            at, number = at + len(word), number + 1
        return number


def _spell(words: list[str]) -> list[bytes]:
    return [_encode(word if word in ",.:" else f" {word}")[1:-1] for word in words]


class Made(msgspec.Struct, frozen=True):
    """What was generated, for an answer that isn't streamed. ``text`` is the inside of a JSON string."""

    text: bytes
    finish_reason: str
    usage: dict[str, Any]
    token_ids: list[int] | None = None  # where they are to be told
    thoughts: bytes = b""


class Answer:
    """Writes one completion: as a whole, or as stream events around the words. ``chat`` tells the endpoint."""

    __slots__ = ("_before", "_created", "_end", "_start", "_tail", "chat", "id", "model")

    def __init__(self, response_id: str, model: str, *, chat: bool) -> None:
        self.id = response_id
        self.model = model
        self.chat = chat
        self._created = int(time.time())
        kind = "chat.completion.chunk" if chat else "text_completion"
        self._start = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"choices":' % (
            _encode(response_id), kind.encode(), self._created, _encode(model),
        )  # fmt: skip
        self._before = self._start + (b'[{"index":0,"delta":{"content":"' if chat else b'[{"index":0,"text":"')
        self._end = b"}" if chat else b""  # of the delta
        self._tail = b'"' + self._end + b',"finish_reason":null}]}\n\n'

    def opening(self) -> bytes:
        """Return the event that names the role (chat only)."""
        return self.opening_with(NO_MEMBERS)

    def opening_with(self, told: Members) -> bytes:
        """Return the same with the prompt's ids."""
        choice = b'{"role":"assistant","content":""%b},"finish_reason":null' % told.delta
        return self._start + b'[{"index":0,"delta":' + choice + b"}]" + told.top + b"}\n\n"

    def event(self, word: bytes) -> bytes:
        """Return the event for one token, ``word`` being the inside of a JSON string."""
        return self._before + word + self._tail

    def event_with(self, word: bytes, told: Members) -> bytes:
        """Return the same with its id."""
        members = told.delta + self._end + told.choice
        return self._before + word + b'"' + members + b',"finish_reason":null}]}\n\n'

    def thought(self, word: bytes, told: Members = NO_MEMBERS) -> bytes:
        """Return the event for a token of the thoughts (chat only)."""
        delta = b'{"reasoning_content":"%b"%b}' % (word, told.delta)
        return self._start + b'[{"index":0,"delta":' + delta + told.choice + b',"finish_reason":null}]}\n\n'

    def closing(self, finish_reason: str, usage: dict[str, Any] | None) -> bytes:
        """Return the last events: the reason, the usage if wanted, the end."""
        last = _choice("delta", {} if self.chat else "", finish_reason, chat=self.chat)
        events = self._start + _encode([last]) + b"}\n\n"
        if usage is not None:
            events += self._start + b'[],"usage":' + _encode(usage) + b"}\n\n"
        return events + b"data: [DONE]\n\n"

    def failure(self, message: str) -> bytes:
        """Return the events of a stream that can't go on: an error object instead of a chunk, then the end."""
        error = {"message": message, "type": "internal_error", "param": None, "code": None}
        return b"data: " + _encode({"error": error}) + b"\n\ndata: [DONE]\n\n"

    def whole(self, made: Made) -> bytes:
        """Return the body of an answer that isn't streamed."""
        quoted = msgspec.Raw(b'"' + made.text + b'"')
        content: Any = {"role": "assistant", "content": quoted} if self.chat else quoted
        if made.thoughts:
            content["reasoning_content"] = msgspec.Raw(b'"' + made.thoughts + b'"')
        choice = _choice("message", content, made.finish_reason, chat=self.chat)
        if made.token_ids is not None:
            (content if self.chat else choice)["completion_token_ids"] = made.token_ids
        return _encode({
            "id": self.id,
            "object": "chat.completion" if self.chat else "text_completion",
            "created": self._created,
            "model": self.model,
            "choices": [choice],
            "usage": made.usage,
        })  # fmt: skip


def _choice(chat_key: str, content: Any, finish_reason: str, *, chat: bool) -> dict[str, Any]:
    return {"index": 0, chat_key if chat else "text": content, "logprobs": None, "finish_reason": finish_reason}


def usage_of(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


class Ids:
    """Response ids, unique to the instance and cheap."""

    __slots__ = ("_counter", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._counter = itertools.count(1)

    def response_id(self, request_id: str, prefix: str) -> str:
        """Return an id that begins with ``prefix``, of the client's if it gave one."""
        if request_id:
            return request_id if request_id.startswith(prefix) else prefix + request_id
        return f"{prefix}{self._name}-{next(self._counter)}"
