"""The way of one request by its model: the destinations that are left to it, and the body for the one it goes to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeVar

from fd_router.errors import BadRequestError
from fd_router.http.messages import Request
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.openai.endpoint import WithModel
from fd_router.routing.request_queue import RequestQueue
from fd_router.scheduling.pair_seeker import PairSeeker
from fd_router.scheduling.reservation import Reservation
from fd_router.spliced_body import Body, base_of

Pair = tuple[Reservation[Instance] | None, Reservation[Instance]]

ResultT = TypeVar("ResultT")


class Place(Protocol):
    """A model that a request may go to."""

    @property
    def group(self) -> str:
        """The model of its group."""


class Chain(Protocol):
    """The places of one request, in order."""

    def __getitem__(self, index: int, /) -> Place: ...


class ModelChoice(Protocol):
    """Knows which model serves a request; see ``routing.models.directory``."""

    @property
    def table(self) -> object:
        """What it goes by: another object when names, or what is served, have changed."""

    def find(self, completion: Completion, allowed: Collection[str] | None, /) -> Any:
        """Return the places that the request may go to, a ``Chain``. Raises BadRequestError."""

    def choose(self, chain: Any, completion: Completion, pick: Callable[[Any], ResultT], /) -> ResultT:
        """Return what ``pick`` chooses at the first place that has an instance. Raises NoInstanceError."""


class ModelSwitch:
    """Says whether models matter: ``choice`` is who knows them then. What every request looks at is one attribute."""

    __slots__ = ("choice", "on_not_found", "queue_of")

    def __init__(self) -> None:
        self.choice: ModelChoice | None = None
        self.on_not_found: Callable[[], None] = _ignored
        """Is told that an instance answered 404: it may not serve the model."""
        self.queue_of: Callable[[str], RequestQueue | None] = _no_queue

    def route(
        self, completion: Completion, request: Request, with_model: WithModel, allowed: Collection[str] | None
    ) -> ModelRoute | None:
        """Find the way of a request, None where models don't matter. Raises BadRequestError for an unknown model."""
        choice = self.choice
        if choice is None:
            return None
        chain = choice.find(completion, allowed)
        queue = self.queue_of(chain[0].group)
        return ModelRoute(choice, chain, completion, request, with_model, queue, allowed)


class ModelRoute:
    """Chooses an instance of the request's model, and makes the request ask for the model as that instance calls it.

    ``body`` is what is to be sent after a choice, ``queue`` where the request waits for room.
    """

    __slots__ = (
        "_allowed", "_asked", "_chain", "_choice", "_completion", "_request", "_table", "_with_model", "body", "queue",
    )  # fmt: skip

    def __init__(
        self,
        choice: ModelChoice,
        chain: Any,
        completion: Completion,
        request: Request,
        with_model: WithModel,
        queue: RequestQueue | None,
        allowed: Collection[str] | None,
    ) -> None:
        self._choice = choice
        self._table: object | None = choice.table  # that the chain is from; None: it stays as it is
        self._allowed = allowed
        self._chain = chain
        self._completion = completion
        self._with_model = with_model
        self._asked = completion.model  # for which the body asks
        self._request = request
        self.body: Body = request.body
        self.queue = queue

    def select(self, tried: Collection[str], completion: Completion | None = None) -> Reservation[Instance]:
        """Choose a single instance, not one of ``tried`` (keys) if there is another. Raises NoInstanceError.

        ``completion``: what scheduling sees instead of the request.
        """
        completion = completion or self._completion
        found: Reservation[Instance] = self._choice.choose(
            self._chain_now(), completion, lambda group: group.select(completion, tried)
        )
        self._settle(found)
        return found

    def select_pair(
        self,
        completion: Completion,
        tried: Collection[str] = (),
        on_prefill_chosen: Callable[[], None] | None = None,
        seeker: PairSeeker[Instance] | None = None,
    ) -> Pair:
        """Choose a pair, as ``PairScheduler.select`` does. Raises NoInstanceError."""
        found: Pair = self._choice.choose(
            self._chain_now(), completion, lambda group: group.select_pair(completion, tried, on_prefill_chosen, seeker)
        )
        self._settle(*found)
        return found

    def _chain_now(self) -> Any:
        """Return the places, found anew if the fleet has changed since. Raises BadRequestError."""
        choice = self._choice
        if self._table is not None and self._table is not choice.table:
            self._chain, self._table = choice.find(self._completion, self._allowed), choice.table
        return self._chain

    def go_to(self, served: Collection[str]) -> bool:
        """Go to an instance that was found in another way, and serves these models (none: that isn't known).

        Returns False, and changes nothing, if it is none that the request may go to.
        """
        for place in self._chain_now():
            if place.model in served or not (served and place.model):
                self._completion.served_as = place.model
                self._completion.cache_seed = place.cache_seed
                self._settle()
                return True
        return False

    def pin(self) -> None:
        """Let it go to no other model any more: what was generated is one model's."""
        self._table = None
        served_as = self._completion.served_as
        self._chain = tuple(place for place in self._chain if place.model == served_as) or self._chain

    def _settle(self, *held: Reservation[Instance] | None) -> None:
        """Have the body ask for the model that was chosen. What is ``held`` is given back if that can't be."""
        model = self._completion.served_as
        if not model or model == self._asked:  # "": whatever the client wrote
            return
        try:
            body = self._with_model(base_of(self.body), self._request.head.headers, model)
        except (ValueError, RecursionError) as error:
            for reservation in held:
                if reservation is not None:
                    reservation.release()
            raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None
        self._asked = model
        self.body = body
        if isinstance(body, bytes):
            self._completion.replace_body(body)

    def __repr__(self) -> str:
        return f"<ModelRoute to {self._completion.served_as!r}>"


def _ignored() -> None:
    """Nobody wants to know."""


def _no_queue(_model: str) -> None:
    """Nobody waits."""
