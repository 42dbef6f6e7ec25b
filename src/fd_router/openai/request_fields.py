"""The fields of a completion's body that scheduling reads, as types for the decoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

NO_TOOLS: Final = msgspec.Raw()
"""What ``RequestFields.tools`` is where a body has none."""

BEYOND_TEXTS: Final = msgspec.Raw()
"""What it is where the body has more than texts: tools that are to be read again, or parts such as images, or both."""

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
    """The keys that matter here. A well-formed request of any client fits; what doesn't takes the slow way.

    Those that nearly every body has come first, in the order in which clients mostly write them: the decoder looks for
    a key from behind the last one that it found.
    """

    unread: ClassVar[int] = 0  # characters of the prompt beyond what was read
    engine_prompt: ClassVar[str] = ""  # where the body doesn't say all of it

    model: str | None = None
    messages: list[Message] | None = None
    prompt: Prompt | None = None
    max_tokens: Any = None  # this, the next and the user are read only when somebody asks
    max_completion_tokens: Any = None
    stream: bool | int | float | str | None = False
    prompt_token_ids: list[int | list[int]] | None = None  # FastDeploy's; it goes before the text
    request_id: str | int | msgspec.UnsetType | None = msgspec.UNSET
    session_id: str | None = None
    prompt_cache_key: str | None = None
    req_id: str | int | None = None
    extra_body: ExtraBody | None = None
    user: Any = None
    service_tier: str | None = None
    tools: msgspec.Raw = NO_TOOLS  # as they were written; not NO_TOOLS either where there is something else than texts
    disaggregate_info: Any = msgspec.UNSET
    # What a router tells engines; null is as good as absent. A value fits none of these, and takes the slow way.
    kv_transfer_params: None = None
    ec_transfer_params: None = None
    bootstrap_host: None = None
    bootstrap_port: None = None
    bootstrap_room: None = None
    data_parallel_rank: None = None
    routed_dp_rank: None = None
    disagg_prefill_dp_rank: None = None
    transfer_member: str = msgspec.field(default="", name=" transfer_member ")  # the first of those that has a value


class ContinuedFields(RequestFields, gc=False):
    """Those of a request that goes on behind what was generated, where its prompt is more than its texts."""

    engine_prompt: str = ""  # type: ignore[misc]  # of each one its own


TRANSFER_MEMBERS: Final = (
    "kv_transfer_params", "ec_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room",
    "data_parallel_rank", "routed_dp_rank", "disagg_prefill_dp_rank",
)  # fmt: skip
"""Members by which routers tell vLLM and SGLang from where to fetch a KV cache, or which rank is to serve. An engine
that is given a host there connects to it, so they are no client's to choose."""


_TRUE_WORDS = frozenset(("1", "on", "t", "true", "y", "yes"))
"""Texts, in any case, that engines built on pydantic take for true."""


def is_true(value: object) -> bool:
    """Tell whether engines take ``value`` for true: they read it as pydantic does, so 1, 1.0, "on" and "yes" are."""
    return value == 1 or (isinstance(value, str) and value.lower() in _TRUE_WORDS)


_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,18})(?:\.0*)?\s*", re.ASCII)


def whole_number(value: object) -> int | None:
    """Return the whole number that engines take ``value`` for, in the same way; None where they refuse it.

    So 10.0 and "10" are 10, and true is 1.
    """
    if isinstance(value, int):  # bool as well
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) if found is not None else None


def transfer_member(body: Mapping[str, Any]) -> str:
    """Return the first of them that has a value in ``body``, "" if none has."""
    return next((name for name in TRANSFER_MEMBERS if body.get(name) is not None), "")
