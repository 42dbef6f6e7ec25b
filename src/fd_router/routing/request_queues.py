"""The request queues: one for all requests, and one for each model where instances serve different ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container

from fd_router.instances.group_key import ANY_MODEL
from fd_router.routing.request_queue import RequestQueue


class RequestQueues:
    """The queue of each group: a model whose instances are full holds up nobody who waits for another one.

    Each has the bounds of ``admission`` for itself. Where models share instances, their queues take turns.
    """

    def __init__(self, make: Callable[[], RequestQueue]) -> None:
        self._make = make
        self.default = make()
        """Of requests that any instance serves."""
        self._queues: dict[str, RequestQueue] = {}
        self._turn = 0

    def of(self, model: str) -> RequestQueue:
        """Return the queue of those that wait for instances of ``model``."""
        if model == ANY_MODEL:
            return self.default
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = self._make()
        return queue

    def on_capacity(self) -> None:
        """There may be room for one more: whose turn is first changes, for all may wait for the same instance."""
        self.default.on_capacity()
        if self._queues:
            queues = tuple(self._queues.values())
            self._turn = turn = (self._turn + 1) % len(queues)
            for queue in queues[turn:] + queues[:turn]:
                queue.on_capacity()

    def keep(self, models: Container[str]) -> None:
        """Let go of the queues of other models, if nobody waits there."""
        self._queues = {name: queue for name, queue in self._queues.items() if name in models or queue.waiting}

    def lengths(self) -> dict[str, int]:
        """Return how many requests of each priority wait, in all queues together."""
        lengths: Counter[str] = Counter(self.default.lengths())
        for queue in self._queues.values():
            lengths.update(queue.lengths())
        return dict(lengths)

    def __repr__(self) -> str:
        return f"<RequestQueues {self.default!r}, {len(self._queues)} of models>"
