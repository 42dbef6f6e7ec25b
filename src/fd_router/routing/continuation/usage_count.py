"""The count of a usage by text: the tokenizer of the instance that goes on says how many tokens it was given."""

from __future__ import annotations

from math import ceil

from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.openai.continuation.event_json import text_of
from fd_router.openai.continuation.generated import Generated
from fd_router.openai.continuation.plan import Continuation
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.routing.continuation.contracts import Owner
from fd_router.scheduling.request_view import prompt_tokens
from fd_router.tokenization.text_count import TextCount


class UsageCount:
    """Asks while the stream goes on; nobody waits for the answer."""

    __slots__ = ("_count", "_owner", "prompt_tokens")

    def __init__(self, owner: Owner, completion: Completion) -> None:
        self._owner = owner
        self.prompt_tokens = ceil(prompt_tokens(completion))
        """As far as they are known here: for an answer whose instance doesn't come to tell them."""
        self._count: TextCount | None = None

    def begin(self, plan: Continuation, instance: Instance, source: SourceRequest, generated: Generated) -> None:
        """Ask, if ``instance`` is given text, and the client wants to know."""
        if plan.by == "text" and source.wants_usage:
            model = text_of(source.fields, "model")
            self._count = self._owner.count_text(instance, model, generated.whole_text[: -len(plan.repeats) or None])

    def tokens(self) -> int | None:
        """Return what the tokenizer said; None: nothing yet, or it wasn't asked."""
        return self._count.tokens if self._count is not None else None

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        count, self._count = self._count, None
        if count is not None:
            count.cancel()

    def __repr__(self) -> str:
        return f"<UsageCount {self._count!r}>"
