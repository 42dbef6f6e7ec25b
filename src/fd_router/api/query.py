"""The query of a request to one of the router's own endpoints: its parameters, and none that it doesn't know.

For those that FastDeploy's router doesn't have: what that one doesn't know it passes over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from urllib.parse import parse_qs

from fd_router.errors import BadRequestError
from fd_router.http.messages import Request

_SHOWN = 80
"""Characters of a client's text that an error repeats."""


def read_query(request: Request, *known: str) -> Mapping[str, str]:
    """Return the parameters, the last one of each name. Raises BadRequestError for one that isn't ``known``.

    A misspelt ``deadline_secs`` would do something else than was asked for, and say that all is well.
    """
    if not request.head.query:
        return {}
    given = parse_qs(request.head.query, keep_blank_values=True)
    for name in given:
        if name not in known:
            may = f"it may be {' or '.join(known)}" if known else "there are none here"
            raise BadRequestError(f"unknown query parameter {name[:_SHOWN]!r}; {may}", code="unknown_parameter")
    return {name: values[-1] for name, values in given.items()}


def read_seconds(request: Request, name: str, most: float) -> float | None:
    """Return the number of seconds that the one parameter tells, None if it isn't there. Raises BadRequestError."""
    text = read_query(request, name).get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= most:
        raise BadRequestError(f"{name}: {text[:_SHOWN]!r} is not a number from 0 to {most}")
    return seconds
