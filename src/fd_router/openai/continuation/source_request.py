"""The request of a broken stream, read once more: what of it says whether, and how, another instance can go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from fd_router.openai.continuation.event_json import Fields, decode_object, ids_of, objects
from fd_router.openai.json_splice import add_members, drop_members
from fd_router.openai.request_fields import is_true, whole_number

MOST: Final = ("max_tokens", "max_completion_tokens")
LEAST: Final = ("min_tokens", "min_completion_tokens")
THOUGHTS: Final = "reasoning_max_tokens"
"""FastDeploy's limit of thoughts, which counts all tokens from the beginning of its answer."""

_GUIDES: Final = (
    "guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_json_object", "structural_tag",
    "structured_outputs", "regex", "ebnf", "json_schema", "grammar",
)  # fmt: skip
"""Members that constrain the text by a grammar, by whatever engine's name."""


class SourceRequest:
    """A request's body as its client sent it. Raises ValueError when it is no JSON object in UTF-8."""

    def __init__(self, body: bytes, *, chat: bool) -> None:
        fields = decode_object(body)
        if fields is None:
            raise ValueError("the body is no JSON object")
        self.body = body
        self.chat = chat
        self.fields: Fields = fields

    @property
    def obstacle(self) -> str:
        """Why its stream can't be continued by whatever engine, a word; "" if nothing is known."""
        return next((word for word, is_so in _OBSTACLES if is_so(self.fields)), "")

    @property
    def prompt(self) -> str | None:
        """The one text that a completion goes on from; None: it is something else."""
        prompt = self.fields.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        return prompt if isinstance(prompt, str) else None

    @property
    def has_suffix(self) -> bool:
        """Whether a completion goes between its prompt and a text: some engines make of both what they begin with."""
        return isinstance(self.fields.get("suffix"), str)

    @property
    def stops(self) -> list[str]:
        """The texts that end the answer."""
        stop = self.fields.get("stop")
        if isinstance(stop, str):
            stop = [stop]
        return [item for item in stop if isinstance(item, str) and item] if isinstance(stop, list) else []

    @property
    def shows_stop(self) -> bool:
        """Whether the text that ends the answer belongs to it."""
        return is_true(self.fields.get("include_stop_str_in_output"))

    @property
    def wants_ids(self) -> bool:
        """Whether the client is to be shown token ids."""
        return is_true(self.fields.get("return_token_ids"))

    @property
    def wants_usage(self) -> bool:
        """Whether the client is to be told the usage at the end."""
        options = self.fields.get("stream_options")
        return isinstance(options, dict) and is_true(options.get("include_usage"))

    @property
    def most(self) -> int | None:
        """The most tokens that the answer may have, None if it doesn't say.

        Of two limits the larger one: engines don't agree which goes before the other, and one that has reached the
        smaller says so.
        """
        return max(self._limits().values(), default=None)

    @property
    def lengthens_last(self) -> bool:
        """Whether its client has the last message gone on with, instead of a new one."""
        return is_true(self.fields.get("continue_final_message"))

    @property
    def has_media(self) -> bool:
        """Whether some message has more than text in it."""
        parts = (part for message in objects(self.fields.get("messages")) for part in objects(message.get("content")))
        return any(part.get("type") != "text" for part in parts)

    def limits_less(self, tokens: int) -> Fields:
        """Return the members that limit the answer's length, less ``tokens`` that there are already."""
        changed = {name: max(1, count - tokens) for name, count in self._limits().items()}
        if (count := whole_number(self.fields.get(THOUGHTS))) is not None and count > 0:
            changed[THOUGHTS] = max(1, count - tokens)
        for name in LEAST:
            if (count := whole_number(self.fields.get(name))) is not None:
                changed[name] = max(0, count - tokens)
        return changed

    def _limits(self) -> dict[str, int]:
        """Return the limits that it tells. One of 0 or below is none: some engines take -1 for as long as it likes."""
        told = {name: whole_number(self.fields.get(name)) for name in MOST}
        return {name: count for name, count in told.items() if count is not None and count > 0}

    def with_members(self, changed: Mapping[str, Any], dropped: tuple[str, ...] = ()) -> bytes:
        """Return the body with some members changed or dropped; the others stay byte for byte.

        Raises ValueError when that can't be done.
        """
        names = {*changed, *dropped}
        members = b",".join([msgspec.json.encode(name) + b":" + _encode(value) for name, value in changed.items()])
        body = drop_members(self.body, names)
        return bytes(add_members(body, members) if members else body)

    def raw(self, name: str) -> bytes:
        """Return the value of a member as it stands in the body. Raises ValueError when it isn't there."""
        value = msgspec.json.decode(self.body, type=dict[str, msgspec.Raw]).get(name)
        if value is None:
            raise ValueError(f"the body has no {name}")
        return bytes(value)

    def __repr__(self) -> str:
        return f"<SourceRequest {'chat' if self.chat else 'completion'} {len(self.body)} bytes>"


def _encode(value: Any) -> bytes:
    return bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)


def _is_guided(fields: Fields) -> bool:
    form = fields.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else form
    return kind not in (None, "text") or any(fields.get(name) for name in _GUIDES)


def _forces_tools(fields: Fields) -> bool:
    return fields.get("tool_choice") not in (None, "auto", "none") or fields.get("function_call") not in (
        None, "auto", "none",
    )  # fmt: skip


def _has_several(fields: Fields) -> bool:
    if any((whole_number(fields.get(name)) or 1) > 1 for name in ("n", "best_of")):
        return True
    prompt = fields.get("prompt")
    if not isinstance(prompt, list) or ids_of(fields, "prompt") is not None:
        return False
    return len(prompt) != 1


def _has_audio(fields: Fields) -> bool:
    modalities = fields.get("modalities")
    return bool(fields.get("audio")) or (isinstance(modalities, list) and modalities != ["text"])


_OBSTACLES: Final[tuple[tuple[str, Callable[[Fields], bool]], ...]] = (
    ("guided", _is_guided),  # the grammar would begin again, without an error
    ("tool_choice", _forces_tools),  # the same
    ("choices", _has_several),
    ("beam_search", lambda fields: bool(fields.get("use_beam_search"))),
    ("echo", lambda fields: bool(fields.get("echo"))),
    ("prompt_logprobs", lambda fields: fields.get("prompt_logprobs") is not None),
    ("audio", _has_audio),
    ("kv_transfer", lambda fields: bool(fields.get("kv_transfer_params"))),  # somebody else's disaggregation
)
"""What a request may ask for that no engine can go on with, and the word for it in log and metric."""
