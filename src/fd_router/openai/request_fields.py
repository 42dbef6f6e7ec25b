"""The fields of a completion's body that scheduling reads, as types for the decoder."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

Prompt = str | list[str | int | list[int]]


class Part(msgspec.Struct, gc=False):
    """One part of a message's content."""

    type: str = ""
    text: str = ""


class Message(msgspec.Struct, gc=False):
    """One message of a chat."""

    content: str | list[Part] | None = None


class ExtraBody(msgspec.Struct, gc=False):
    """What clients of FastDeploy's put where OpenAI's SDK lets them."""

    session_id: str | None = None


class RequestFields(msgspec.Struct, gc=False):
    """The keys that matter here. A well-formed request of any client fits; what doesn't takes the slow way."""

    unread: ClassVar[int] = 0  # characters of the prompt beyond what was read

    stream: bool | int | float | str | None = False
    messages: list[Message] | None = None
    prompt: Prompt | None = None
    prompt_token_ids: list[int | list[int]] | None = None  # FastDeploy's; it goes before the text
    request_id: str | int | msgspec.UnsetType | None = msgspec.UNSET
    session_id: str | None = None
    prompt_cache_key: str | None = None
    req_id: str | int | None = None
    extra_body: ExtraBody | None = None
    model: str | None = None
    user: Any = None  # these three are read only when somebody asks
    max_tokens: Any = None
    max_completion_tokens: Any = None
    service_tier: str | None = None
    disaggregate_info: Any = msgspec.UNSET
