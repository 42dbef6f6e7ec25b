"""The plan of one attempt at a pair, made by the dialect, whose failure is the request's."""

from __future__ import annotations

from fd_router.config.dotted_path import place_of
from fd_router.engines.pairing import PairedRequest, PairPlan
from fd_router.errors import BadRequestError, HttpError
from fd_router.instances.instance import Instance


def plan_pair(paired: PairedRequest, prefill: Instance, decode: Instance) -> PairPlan:
    """Have the dialect of the pair plan the attempt. Raises an HttpError when it can't."""
    dialect = decode.dialect
    try:
        return dialect.plan(paired, prefill.registration, decode.registration)
    except HttpError:  # a request that a pair can't serve
        raise
    except Exception as error:
        if isinstance(error, (ValueError, RecursionError)):
            raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None
        message = f"Failed to build disaggregate_info: the dialect {dialect.name} failed: {place_of(error)}"
        raise HttpError(message, code="dialect_failed") from error
