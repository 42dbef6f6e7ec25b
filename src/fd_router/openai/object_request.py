"""A request with tools, of an endpoint whose body has a shape of its own: Anthropic's Messages, OpenAI's Responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fd_router.openai.completion import Completion, Headers, RequestFields
from fd_router.openai.engine_prompt import stand_in, with_tools
from fd_router.openai.json_body import read_object, texts_of
from fd_router.openai.request_fields import NO_TOOLS


class ObjectRequest(Completion):
    """``members``: the names of what its prompt is made of, in their order.

    What an engine's prompt has beyond the texts is read again from the body when it is asked for, and not kept: as
    objects tools take many times their bytes.
    """

    __slots__ = ("_members", "_source")

    def __init__(self, body: bytes, headers: Headers, fields: RequestFields, *members: str) -> None:
        Completion.__init__(self, body, headers, fields)
        self._source = body
        self._members = members

    @property
    def engine_prompt(self) -> str:
        """See ``Completion``."""
        if self._fields.tools is NO_TOOLS:
            return self.prompt
        asked = read_object(self._source)
        found = (text for name in self._members for text in texts_of(asked.get(name), _stand_in))
        return with_tools(asked.get("tools"), " ".join(stripped for text in found if (stripped := text.strip())))


def _stand_in(part: Mapping[str, Any]) -> str:
    return stand_in(part["type"], part)
