"""The options that protect instances from too much, and requests from instances that fail."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.options import Option


class ProtectionConfig(msgspec.Struct, frozen=True):
    """How much an instance is given, and when it is given nothing."""

    max_requests_per_instance: Annotated[
        int,
        Option(
            help="Concurrent requests that an instance may have, unless it registered its own max_requests. "
            "0: no limit.",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 0
    breaker_failures: Annotated[
        int,
        Option(
            help="Failures in a row (connection, time limit, broken answer, status 5xx) that open an instance's "
            "circuit: it gets no requests for a while, then one on trial. 0: any number.",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 5
    breaker_failure_percent: Annotated[
        float,
        Option(
            help="Share of failures among the requests of the window that opens it, too. 0: any share.",
            unit="%",
            minimum=0,
            maximum=100,
        ),
    ] = 50.0
    breaker_min_requests: Annotated[
        int, Option(help="Requests that the window must have for a share to count.", minimum=1, maximum=1_000_000)
    ] = 20
    breaker_window_secs: Annotated[
        float, Option(help="Length of the window, which slides in halves.", unit="s", minimum=0.1, maximum=86400)
    ] = 10.0
    breaker_open_secs: Annotated[
        float,
        Option(
            help="How long a circuit stays open the first time; twice as long each time that it opens again soon.",
            unit="s",
            minimum=0.01,
            maximum=86400,
        ),
    ] = 1.0
    breaker_max_open_secs: Annotated[
        float, Option(help="The longest that it stays open at a time.", unit="s", minimum=0.01, maximum=86400)
    ] = 60.0
    min_serving_percent: Annotated[
        float,
        Option(
            help="No circuit opens if less than this share of a role's instances were left, and instances whose probes "
            "get no answer in time make it up: better a doubtful one than none.",
            unit="%",
            minimum=0,
            maximum=100,
        ),
    ] = 50.0
    ledger_interval_secs: Annotated[
        float,
        Option(
            help="How often the counts of requests at instances are checked, and requests looked for that nothing "
            "happens to. 0: never.",
            unit="s",
            minimum=0,
            maximum=86400,
        ),
    ] = 5.0
    slow_start_secs: Annotated[
        float,
        Option(
            help="How long an instance that has just come (back) takes to get its full share of requests. 0: no time.",
            unit="s",
            minimum=0,
            maximum=86400,
        ),
    ] = 0.0
