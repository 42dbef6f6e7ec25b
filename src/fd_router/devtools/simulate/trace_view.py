"""A trace's request as the policies see it: the text that a replay would send, made only if somebody looks."""

from __future__ import annotations

from array import array

from fd_router.devtools.engine_model.prompts import CHARACTERS_PER_TOKEN
from fd_router.devtools.traces.trace import TraceRequest
from fd_router.devtools.traces.trace_text import text_of
from fd_router.openai.completion import TOKENS_PER_CHARACTER
from fd_router.openai.precedence import Precedence


class TraceView:
    """``RequestView`` of a trace's request; a tokenizer has not seen it."""

    __slots__ = (
        "_prompt", "_request", "cache_seed", "decisions", "max_tokens", "model", "precedence", "session_id", "stream",
        "token_ids", "tokens", "user",
    )  # fmt: skip

    def __init__(self, request: TraceRequest) -> None:
        self._request = request
        self._prompt = ""
        self.tokens = (request.input_tokens * CHARACTERS_PER_TOKEN - 1) * TOKENS_PER_CHARACTER
        self.token_ids: array[int] | None = None
        self.stream = True
        self.max_tokens = request.output_tokens  # a replay asks for so many
        self.model = self.session_id = self.user = ""  # a trace tells none
        self.cache_seed = 0
        self.precedence = Precedence(party=request.session) if request.session else None
        self.decisions: dict[str, str] | None = None

    def header(self, name: str) -> str | None:  # noqa: ARG002
        """Return None: a trace has no headers."""
        return None

    @property
    def prompt(self) -> str:
        """The text."""
        if not self._prompt:
            self._prompt = text_of(self._request)
        return self._prompt

    @property
    def engine_prompt(self) -> str:
        """The same: it has no tools, nor anything that is no text."""
        return self.prompt
