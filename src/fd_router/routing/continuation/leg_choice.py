"""The choice of a leg whose engine understands what it is to be sent, in a fleet of several engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.instances.instance import Instance
from fd_router.routing.continuation.contracts import Leg


def choose_leg(
    choose: Callable[[Sequence[str]], Leg],
    excluded: Sequence[str],
    understands: Callable[[Instance], bool],
    *,
    falls_back: bool,
) -> Leg:
    """Choose one that isn't ``excluded`` (keys) and ``understands``; or else, if it ``falls_back``, an excluded one.

    To ``choose``, keys are a wish: it may take one of them where nobody else is there. Raises NoInstanceError.
    """
    try:
        return _choose(choose, excluded, understands)
    except NoInstanceError as error:
        if isinstance(error, SaturatedError) or not falls_back:
            raise
        return _choose(choose, (), understands)


def _choose(
    choose: Callable[[Sequence[str]], Leg], excluded: Sequence[str], understands: Callable[[Instance], bool]
) -> Leg:
    strangers: list[str] = []
    while True:
        leg = choose((*excluded, *strangers))
        is_kept = False
        try:
            instance = leg.instances[-1]
            is_kept = understands(instance)
        finally:  # what isn't kept is given back, whatever goes wrong
            if not is_kept:
                leg.cancel()
        if is_kept:
            return leg
        if instance.key in strangers:
            raise NoInstanceError("those that are left are other engines, which wouldn't understand")
        strangers.append(instance.key)
