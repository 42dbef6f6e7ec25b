"""The completion: what scheduling needs to know of a request's body: prompt text, stream or not, ids."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import asdict

from fd_router.errors import UNREADABLE, BadRequestError
from fd_router.openai.engine_prompt import chat_prompt
from fd_router.openai.large_bodies import LARGE, as_json
from fd_router.openai.large_prompts import READ_IN_PART, read_in_part
from fd_router.openai.precedence import Precedence
from fd_router.openai.request_fields import (
    BEYOND_TEXTS,
    NO_TOOLS,
    TRANSFER_MEMBERS,
    ContinuedFields,
    ExtraBody,
    Message,
    Part,
    RequestFields,
    is_true,
    transfer_member,
)

__all__ = ["Completion", "Headers", "RequestFields", "body_in_utf8"]

Headers = Sequence[tuple[bytes, bytes]]
"""A request's header fields as (name, value), in the order received."""

TOKENS_PER_CHARACTER = 2
"""FastDeploy's router estimates a prompt's tokens so; see section 4 of its protocol."""

KEPT_TEXT = 64 * 1024
"""Bytes of a body up to which its text is kept beside it, once an instance is chosen."""

SMALL = 4 * 1024
"""Bytes of a body up to which it costs next to nothing to copy its text."""

ESTIMATE_PER_ID = 3 * TOKENS_PER_CHARACTER
"""What a token counts in that measure, where the client sends tokens: about three characters."""


_UNSET = msgspec.UNSET
_decode = msgspec.json.Decoder(RequestFields).decode


class Completion:
    """A completion request as the scheduler and its policies see it (``scheduling.request_view``).

    Raises BadRequestError when the body isn't a JSON object. Values of unexpected types are left for the
    instance to judge: they count as absent here.
    """

    __slots__ = (
        "_body", "_fields", "_headers", "_prompt", "_texts", "cache_lookups", "cache_seed", "decisions",
        "notes", "precedence", "req_id", "request_id", "served_as", "session_id", "stream", "tags", "token_ids",
        "tokens", "transfer_member",
    )  # fmt: skip

    def __init__(self, body: bytes, headers: Headers = (), fields: RequestFields | None = None) -> None:
        """``fields``: what an endpoint with a body of another shape has read there itself."""
        self._headers = headers
        if fields is None:
            self._body = body  # from which the text can be read again
            try:
                fields = _decode(body) if len(body) <= READ_IN_PART else read_in_part(body)
            except UNREADABLE:
                fields = _decode_tolerantly(body)
        else:
            self._body = b""
        self._fields = fields
        stream = fields.stream
        self.stream = stream is True or (stream is not False and is_true(stream))
        self._texts: list[str] | None = (texts := _texts(fields))
        self._prompt: str | None = None
        if len(body) < SMALL:  # in half the time
            self.tokens = len(" ".join(texts)) * TOKENS_PER_CHARACTER
        else:
            self.tokens = (sum(map(len, texts)) + len(texts) - 1 + fields.unread) * TOKENS_PER_CHARACTER if texts else 0
        session = fields.session_id  # one that is no string is none, an empty one as good as absent (FastDeploy)
        if not session and fields.extra_body is not None:
            session = fields.extra_body.session_id
        self.session_id = session or fields.prompt_cache_key or ""
        """By the body: a header that names one goes before it."""
        req_id = fields.req_id
        self.req_id = "" if req_id is None else str(req_id)  # FastDeploy's, which log lines show
        self.transfer_member = fields.transfer_member  # what only a router tells an engine, "" for nothing
        given = fields.request_id
        self.request_id = "" if given is _UNSET or given is None else str(given)
        self.token_ids: array[int] | None = None  # the client's, or from a tokenizer, before the selection
        if not texts and (ids := _token_ids(fields)):
            self.token_ids, self.tokens = ids, len(ids) * ESTIMATE_PER_ID
        self.decisions: dict[str, str] | None = None  # by role, where it wants to know how it was scheduled
        self.precedence: Precedence | None = None  # among those that wait, where a policy wants to know
        self.tags = ""  # of its log lines
        self.notes: list[str] | None = None  # its request's lines that are yet to be logged; None: nobody logs them
        self.cache_seed = 0  # what tells its prefix from the same text under another adapter
        self.served_as = ""  # the model whose instances it goes to, where models matter
        self.cache_lookups = 0  # cache-aware ones so far: a request counts once, whatever its attempts and roles

    @property
    def model(self) -> str:
        """The model asked for, "" if none is."""
        return self._fields.model or ""

    @property
    def has_router_fields(self) -> bool:
        """Whether the body has a ``disaggregate_info``, or a ``request_id`` that is none."""
        fields = self._fields
        has_bad_id = fields.request_id is not _UNSET and not self.request_id
        return has_bad_id or fields.disaggregate_info is not _UNSET

    @property
    def user(self) -> str:
        """OpenAI's ``user``, "" if there is none."""
        user = self._fields.user
        return user if isinstance(user, str) else ""

    @property
    def max_tokens(self) -> int:
        """The most tokens that the answer may have, by the newer key or the older; 0 if neither tells a number."""
        fields = self._fields
        given = fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens
        return given if _is_token(given) and given > 0 else 0

    def header(self, name: str) -> str | None:
        """Return the first value of a header among those that are sent on; names in any case. None: there is none."""
        wanted = name.lower().encode("latin-1", "replace")
        return next((value.decode("latin-1") for key, value in self._headers if key.lower() == wanted), None)

    @property
    def service_tier(self) -> str:
        """OpenAI's ``service_tier``, "" if there is none."""
        return self._fields.service_tier or ""

    @property
    def previous_response_id(self) -> str:
        """The id of a stored answer that this request goes on from, "" if it doesn't: see ``kinds.responses``."""
        return ""

    @property
    def prompt(self) -> str:
        """The prompt's text, put together when it is first asked for: most policies only want its length."""
        if self._prompt is None:
            self._prompt = Completion(self._body).prompt if self._texts is None else " ".join(self._texts)
        return self._prompt

    @property
    def engine_prompt(self) -> str:
        """The prompt as engines have it: tools first, and stand-ins for images and other parts among the texts.

        Put together whenever it is asked for; where there is neither it is ``prompt``.
        """
        fields = self._fields
        if fields.tools is NO_TOOLS:
            return self.prompt
        if self._texts is None:
            return Completion(self._body).engine_prompt
        return fields.engine_prompt or chat_prompt(self._body, fields, self.prompt)

    @property
    def body(self) -> bytes:
        """The body that it was read from, b"" where its endpoint's is of another shape."""
        return self._body

    def has_more_text(self, characters: int) -> None:
        """Count so many characters more, of the body of which it was read from a shorter copy."""
        self.tokens += characters * TOKENS_PER_CHARACTER

    def replace_body(self, body: bytes) -> None:
        """Keep ``body``, which says the same to scheduling, instead of the client's."""
        if self._body:
            self._body = body

    def continued(self, text: str, ids: Sequence[int]) -> Completion:
        """Return the same for an instance that goes on behind ``text``: what was generated is prompt for it.

        ``ids``: of that text, if they are known.
        """
        other, fields = copy(self), self._fields
        if fields.tools is not NO_TOOLS:
            other._fields = ContinuedFields(**asdict(fields), engine_prompt=self.engine_prompt + text)
        other._prompt = self.prompt + text  # noqa: SLF001
        other._texts = [other._prompt]  # noqa: SLF001
        other.tokens = self.tokens + (len(ids) * ESTIMATE_PER_ID if ids else len(text) * TOKENS_PER_CHARACTER)
        if self.token_ids is not None:
            other.token_ids = array("I", (*self.token_ids, *ids))
        return other

    def drop_texts(self) -> None:
        """Forget the text of a large prompt: it takes as much memory as the body, which is kept. Asked for, it is read
        again."""
        if len(self._body) > KEPT_TEXT:
            self._texts = self._prompt = None
            fields = self._fields
            fields.messages = fields.prompt = fields.prompt_token_ids = None
            if fields.tools is not NO_TOOLS:
                fields.tools = BEYOND_TEXTS


def _texts(fields: RequestFields) -> list[str]:
    """Return the prompt's texts, stripped, less those that are empty then."""
    if fields.prompt_token_ids:
        return []
    messages = fields.messages
    if messages is None:
        texts = _prompt_texts(fields.prompt)
    else:
        texts = []
        for message in messages:
            content = message.content
            if isinstance(content, str):
                texts.append(content.strip())
            elif content is not None:
                found = [part.text.strip() for part in content if part.type == "text"]
                if len(found) < len(content) and fields.tools is NO_TOOLS:
                    fields.tools = BEYOND_TEXTS
                texts += found
    return texts if all(texts) else [text for text in texts if text]


def _prompt_texts(prompt: str | Sequence[object] | None) -> list[str]:
    if isinstance(prompt, str):
        return [prompt.strip()]
    prompts = prompt or ()
    are_tokens = bool(prompts) and type(prompts[0]) is type(prompts[-1]) is int  # there may be half a million
    has_texts = not are_tokens and str in set(map(type, prompts))  # in C, for the same reason
    return [item.strip() for item in prompts if isinstance(item, str)] if has_texts else []


def _token_ids(fields: RequestFields) -> array[int] | None:
    """Return the tokens that a client sent instead of text, those of several prompts one after the other."""
    given = fields.prompt_token_ids or (fields.prompt if fields.messages is None else None)
    if not isinstance(given, list):
        return None
    try:
        return array("I", given)  # type: ignore[arg-type]  # mostly they are all numbers
    except (OverflowError, TypeError):
        return _mixed_token_ids(given)


def _mixed_token_ids(given: Sequence[str | int | list[int]]) -> array[int] | None:
    ids = array("I")
    try:
        for item in given:
            if isinstance(item, int):
                ids.append(item)
            elif isinstance(item, list):
                ids.extend(item)
    except (OverflowError, TypeError):  # no engine has such a token
        return None
    return ids


def body_in_utf8(body: bytes) -> bytes:
    """Return ``body``. Raises BadRequestError for another encoding, which engines and splicing might read otherwise."""
    if not json.detect_encoding(body).startswith("utf-8"):
        raise BadRequestError("Invalid JSON format: the body must be UTF-8 (RFC 8259)", code="invalid_json")
    return body


def _decode_tolerantly(body: bytes) -> RequestFields:
    """Take from an unusual body what has the right type.

    By the standard library's decoder, which engines use: what they would accept (a lone surrogate, say) passes.
    """
    body = body_in_utf8(body)
    if len(body) > LARGE:
        return _decode_large(body)
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None
    if not isinstance(raw, dict):
        raise BadRequestError(
            f"Invalid JSON format: the body must be a JSON object, not {_kind(raw)}", code="invalid_json"
        )
    fields = {name: fitted for name, fit in _FITTING.items() if (fitted := fit(raw.get(name))) is not None}
    for name in ("disaggregate_info", "request_id"):
        if name in raw:
            fields.setdefault(name, None)
    return RequestFields(**fields, transfer_member=transfer_member(raw))


def _decode_large(body: bytes) -> RequestFields:
    """Take from a large body what has the right type: the values one by one, those that are large too not at all."""
    try:
        loose = _decode_loosely(body)
    except msgspec.ValidationError:
        raise BadRequestError("Invalid JSON format: the body must be a JSON object", code="invalid_json") from None
    except UNREADABLE:
        return _decode_mended(as_json(body))
    small = {name: bytes(value) for name in _FITTING if 0 < len(value := getattr(loose, name)) <= LARGE}
    fitted = {name: _FITTING[name](json.loads(value)) for name, value in small.items()}
    fields: dict[str, Any] = {name: value for name, value in fitted.items() if value is not None}
    for name in ("disaggregate_info", "request_id"):
        if len(getattr(loose, name)):
            fields.setdefault(name, None)
    told = {name for name in TRANSFER_MEMBERS if bytes(getattr(loose, name)) not in _NOTHING}
    return RequestFields(**fields, transfer_member=min(told, default=""))


def _decode_mended(body: bytes) -> RequestFields:
    """Read a large body that now keeps JSON's rules, or never will."""
    try:
        return _decode(body)
    except msgspec.ValidationError:
        return _decode_large(body)
    except UNREADABLE as error:
        raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _fit_messages(value: Any) -> list[Message] | None:
    if not isinstance(value, list):
        return None
    return [Message(_fit_content(item.get("content"))) for item in value if isinstance(item, dict)]


def _fit_content(content: Any) -> str | list[Part] | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [item for item in content if isinstance(item, dict) and item.get("type") == "text"]
    return [Part("text", part["text"]) for part in parts if isinstance(part.get("text"), str)]


def _fit_prompt(value: Any) -> str | list[str | int | list[int]] | None:
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str) or _is_token(item) or _are_tokens(item)]
    return value if isinstance(value, str) else None


def _fit_ids(value: Any) -> list[int | list[int]] | None:
    return [item for item in value if _is_token(item) or _are_tokens(item)] if isinstance(value, list) else None


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_token, value))


def _fit_extra_body(value: Any) -> ExtraBody | None:
    return ExtraBody(_fit_text(value.get("session_id"))) if isinstance(value, dict) else None


def _fit_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _fit_stream(value: Any) -> bool | None:
    return is_true(value)


def _fit_id(value: Any) -> str | int | None:
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None


_FITTING: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "stream": _fit_stream,
        "model": _fit_text,
        "user": _fit_text,
        "max_tokens": _fit_id,
        "max_completion_tokens": _fit_id,
        "service_tier": _fit_text,
        "messages": _fit_messages,
        "prompt": _fit_prompt,
        "prompt_token_ids": _fit_ids,
        "request_id": _fit_id,
        "session_id": _fit_text,
        "prompt_cache_key": _fit_text,
        "req_id": _fit_id,
        "extra_body": _fit_extra_body,
    }
)

_NOTHING = (b"", b"null")

_LOOSE = (*_FITTING, "disaggregate_info", *TRANSFER_MEMBERS)
_Loose = msgspec.defstruct("_Loose", [(name, msgspec.Raw, msgspec.Raw()) for name in _LOOSE])
_decode_loosely = msgspec.json.Decoder(_Loose).decode
"""Takes the same keys with values of any type, and looks at none of them."""
