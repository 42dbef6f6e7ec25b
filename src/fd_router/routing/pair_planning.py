"""The plan of one attempt at a pair, or at a decode instance alone, made by the dialect: it fails, the request does."""

from __future__ import annotations

from fd_router.engines.pairing import PairedRequest, PairPlan
from fd_router.errors import BadRequestError, HttpError, place_of
from fd_router.instances.instance import Instance


def plan_pair(paired: PairedRequest, prefill: Instance, decode: Instance) -> PairPlan:
    """Have the dialect of the pair plan the attempt. Raises an HttpError when it can't."""
    dialect = decode.dialect
    try:
        return dialect.plan(paired, prefill.registration, decode.registration)
    except Exception as error:
        raise _refusal(error, dialect.name) from error


def plan_alone(paired: PairedRequest, decode: Instance) -> PairPlan:
    """Do the same for the decode instance alone, which ``decodes_alone``."""
    dialect = decode.dialect
    try:
        pairing = dialect.pairing(decode.registration)
        assert pairing is not None, "it was chosen since it has one"
        return pairing.plan_alone(paired)
    except Exception as error:
        raise _refusal(error, dialect.name) from error


def decodes_alone(decode: Instance) -> bool:
    """Tell whether a decode instance serves a whole request without a prefill instance."""
    pairing = decode.dialect.pairing(decode.registration)
    return pairing is not None and pairing.decodes_alone


def why_alone(paired: PairedRequest, path: str, decode: Instance) -> str:
    """Say in a word why no pair can serve a request to ``path``; "" when one can. Raises an HttpError."""
    dialect = decode.dialect
    try:
        pairing = dialect.pairing(decode.registration)
        return "" if pairing is None else pairing.why_alone(paired, path)
    except Exception as error:
        raise _refusal(error, dialect.name) from error


class PlannedSeeker:
    """A request that isn't sent, as it would seek a pair: for who explains where it would go."""

    def __init__(self, path: str, body: bytes) -> None:
        self._path = path
        self._paired = PairedRequest(body, "", has_own_id=False, has_router_fields=False, stream=False)

    def why_alone(self, decode: Instance) -> str:
        """Say in a word why no pair can serve it; "" when one can. Raises an HttpError."""
        return why_alone(self._paired, self._path, decode)

    def goes_alone(self, why: str) -> None:
        """Nothing is sent."""


def _refusal(error: Exception, name: str) -> HttpError:
    if isinstance(error, HttpError):  # a request that a pair can't serve
        return error
    if isinstance(error, (ValueError, RecursionError)):
        return BadRequestError(f"Invalid JSON format: {error}", code="invalid_json")
    message = f"Failed to build disaggregate_info: the dialect {name} failed: {place_of(error)}"
    return HttpError(message, code="dialect_failed")
