"""The request by its model: how it finds its way where several models have to be told apart, and where it waits."""

from __future__ import annotations

from fd_router.errors import HttpError
from fd_router.routing.life import RequestLife
from fd_router.routing.model_route import ModelRoute
from fd_router.routing.request_queue import RequestQueue


class RequestByModel(RequestLife):
    """What a request does about its model. Without a route, models don't matter: it goes to any instance."""

    __slots__ = ("_queue", "_route")

    _route: ModelRoute | None
    _queue: RequestQueue | None  # where it waits for room: its model's, or everybody's

    def _finds_route(self) -> bool:
        """Find out where it goes by its model. Returns False if there is nobody for that: it has ended."""
        try:
            self._find_route()
        except HttpError as error:
            self._telemetry.metrics.models.refused()
            self._fail_locally(error)
            return False
        return True

    def _find_route(self) -> None:
        """Find the way by its model, if models matter by now. Raises BadRequestError."""
        context, completion, grant = self._context, self._completion, self._grant
        is_about_model = context.endpoint.mode != "stored"  # that is about an answer that an instance keeps
        if completion is not None and self._route is None and is_about_model:
            allowed = grant.allowance.key.models if grant is not None else None
            route = context.models.route(completion, self._request, context.endpoint.with_model, allowed)
            if route is not None:
                self._route, self._queue = route, route.queue

    def _follow(self) -> None:
        """Tell what the route's last choice asks for."""
        if self._completion is not None:
            self.record.model = self._completion.served_as
