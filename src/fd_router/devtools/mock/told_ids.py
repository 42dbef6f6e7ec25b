"""Where a mock instance's streams tell token ids: each engine has places of its own."""

from __future__ import annotations

import msgspec

from fd_router.errors import BadRequestError

_encode = msgspec.json.encode


class Members(msgspec.Struct, frozen=True):
    """Members that an event has beside its text, each with a comma before it: in its delta, its choice, at its top."""

    delta: bytes = b""
    choice: bytes = b""
    top: bytes = b""


NO_MEMBERS = Members()


class ToldIds:
    """How a ``dialect`` tells ids in the events of one stream; ``prompt``: those of its prompt."""

    __slots__ = ("_chat", "_dialect", "_prompt")

    def __init__(self, prompt: list[int], dialect: str, *, chat: bool) -> None:
        self._prompt = b',"prompt_token_ids":' + _encode(prompt)
        self._dialect = dialect
        self._chat = chat

    def opening(self) -> Members:
        """Return what the role's event of a chat has."""
        return Members(delta=self._prompt) if self._dialect == "fastdeploy" else Members(top=self._prompt)

    def token(self, token_id: int, *, is_first: bool) -> Members:
        """Return what the event of a token has."""
        if self._dialect == "fastdeploy" and self._chat:
            return Members(delta=b',"completion_token_ids":[%d]' % token_id)
        name = b"completion_token_ids" if self._dialect == "fastdeploy" else b"token_ids"
        prompt = self._prompt if is_first and not self._chat else b""
        return Members(choice=b',"%b":[%d]' % (name, token_id) + prompt)


def check_wish(dialect: str, *, chat: bool, stream: bool) -> None:
    """Raise BadRequestError where an engine refuses to tell ids: SGLang does in streams of chats."""
    if dialect == "sglang" and chat and stream:
        raise BadRequestError("Invalid request: return_token_ids isn't supported with stream")
