"""The request queues: one for all requests, and one for each model where instances serve different ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from weakref import WeakValueDictionary

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
        self._left: WeakValueDictionary[str, RequestQueue] = WeakValueDictionary()
        """Those of models that are gone: whoever was sent from there may yet have to wait there."""
        self._turn = 0

    def of(self, model: str) -> RequestQueue:
        """Return the queue of those that wait for instances of ``model``."""
        if model == ANY_MODEL:
            return self.default
        queue = self._queues.get(model)
        if queue is None:
            queue = self._left[model] if model in self._left else self._make()
            self._left.pop(model, queue)
            self._queues[model] = queue
        return queue

    def on_capacity(self) -> None:
        """There may be room for one more: whose turn is first changes, for all may wait for the same instance."""
        self.default.on_capacity()
        if self._queues or self._left:
            queues = self._all()
            self._turn = turn = (self._turn + 1) % len(queues)
            for queue in queues[turn:] + queues[:turn]:
                queue.on_capacity()

    def keep(self, models: Container[str]) -> None:
        """Let go of the queues of other models, if nobody waits there, once nobody can."""
        for name, queue in tuple(self._queues.items()):
            if name not in models and not queue.waiting:
                self._left[name] = self._queues.pop(name)

    def lengths(self) -> dict[str, int]:
        """Return how many requests of each priority wait, in all queues together."""
        lengths: Counter[str] = Counter(self.default.lengths())
        for queue in self._all():
            lengths.update(queue.lengths())
        return dict(lengths)

    def _all(self) -> tuple[RequestQueue, ...]:
        return (*self._queues.values(), *self._left.values())

    def __repr__(self) -> str:
        return f"<RequestQueues {self.default!r}, {len(self._queues)} of models>"
