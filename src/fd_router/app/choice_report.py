"""What the log and the metrics are told of the choices that policies with a prefix index make."""

from __future__ import annotations

import time
from typing import cast

from fd_router.config.loading import SchedulerConfig
from fd_router.openai.completion import Completion
from fd_router.scheduling.environment import Choice
from fd_router.scheduling.prefix.sessions import Sessions
from fd_router.scheduling.request_view import RequestView
from fd_router.telemetry.cache_line import cache_line
from fd_router.telemetry.debug_lines import choice_lines
from fd_router.telemetry.metrics.instruments import Histogram
from fd_router.telemetry.metrics.scheduling import observe_hit
from fd_router.telemetry.telemetry import Telemetry


class ChoiceReport:
    """Tells the log and the metrics how the cache-aware policy of a role came to a choice."""

    def __init__(self, telemetry: Telemetry, hits: Histogram, options: SchedulerConfig) -> None:
        self._telemetry = telemetry
        self._hits = hits
        self._weights = options.hit_ratio_weight, options.load_balance_weight
        self._sessions = Sessions()  # a session has an instance in each role

    def __call__(self, request: RequestView, choice: Choice) -> None:
        """See ``OnChoice``."""
        completion, log = cast("Completion", request), self._telemetry.log
        observe_hit(self._hits, choice.hit)
        if log.debug_on:
            self._debug(completion, choice)
        if log.info_on and completion.notes is not None:
            completion.notes.append(cache_line(choice, time.time()))
        if completion.session_id:
            is_hit = self._sessions.visit(completion.session_id, choice.selected)
            if not completion.cache_lookups:
                self._telemetry.metrics.cache_request(is_hit)
        completion.cache_lookups += 1

    def _debug(self, completion: Completion, choice: Choice) -> None:
        """Tell what the choice went by, behind what was to be told of the request before it."""
        log, tags = self._telemetry.log, completion.tags
        if completion.notes:
            log.info_all(completion.notes, tags)
            completion.notes.clear()
        tokens = None if completion.token_ids is None else len(completion.token_ids)
        for line in choice_lines(choice, tokens, self._weights):
            log.debug(line, tags)
