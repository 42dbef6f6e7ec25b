"""A group: the instances among which a request is scheduled. It selects; counts, limits and health are theirs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from operator import attrgetter

from fd_router.instances.group_key import GroupKey
from fd_router.instances.instance import Instance
from fd_router.instances.reserve import reserve_of

_url = attrgetter("url")


class Group:
    """The members of one model and role, and which of them may be given a request now.

    What ``available`` and ``candidates`` return is the same object as long as nothing changes, so policies may keep
    what they work out for it, and a request looks nothing through. The registry tells of availability, ``Headroom`` of
    saturation.
    """

    __slots__ = ("_available", "_candidates", "_members", "_min_share", "_with_headroom", "is_reserve", "key")

    def __init__(self, key: GroupKey, min_share: float = 0.0) -> None:
        """``min_share``: of the members that have been up; when fewer are healthy, the reserve makes them up."""
        self.key = key
        self._min_share = min_share
        self.is_reserve = False
        """Whether there is none but the reserve in ``available``, as it was returned last."""
        self._members: dict[str, Instance] = {}
        self._available: tuple[Instance, ...] | None = None
        self._with_headroom: list[Instance] | None = None  # those of ``available`` that aren't saturated
        self._candidates: tuple[Instance, ...] | None = None

    @property
    def available(self) -> tuple[Instance, ...]:
        """The members that are given new requests, ordered by URL: healthy, not paused, draining or ejected.

        When too few of them are left, the reserve is among them; so are saturated ones.
        """
        found = self._available
        if found is None:
            members = self._members.values()
            serving = [instance for instance in members if instance.takes_new]
            reserve = reserve_of(members, len(serving), self._min_share) if len(serving) < len(members) else ()
            self.is_reserve = not serving and bool(reserve)
            found = self._available = tuple(sorted((*serving, *reserve), key=_url))
        return found

    @property
    def is_serving(self) -> bool:
        """Whether a member takes new requests, not only for want of better ones; ``available`` needn't be made anew."""
        if self._available is not None:
            return bool(self._available) and not self.is_reserve
        return any(instance.takes_new for instance in self._members.values())

    @property
    def is_empty(self) -> bool:
        """Whether it has no members."""
        return not self._members

    @property
    def is_saturated(self) -> bool:
        """Whether there are members that take new requests, and none of them has headroom."""
        return not self.candidates() and bool(self.available)

    def candidates(self, excluded: Collection[str] = ()) -> Sequence[Instance]:
        """Return the members that may be chosen now, ordered by URL, without those whose keys are ``excluded``."""
        found = self._candidates
        if found is None:
            found = self._candidates = self._select()
        return tuple(instance for instance in found if instance.key not in excluded) if excluded else found

    def join(self, instance: Instance) -> None:
        """Make ``instance`` a member."""
        self._members[instance.key] = instance
        self.refresh()

    def leave(self, instance: Instance) -> None:
        """Let ``instance`` be a member no more."""
        del self._members[instance.key]
        self.refresh()

    def refresh(self) -> None:
        """Select anew: a member takes new requests and did not, or the other way round, or says other things of itself.

        The tuples are new ones even if they hold the same instances: who keeps what was worked out for the old ones
        drops it.
        """
        self._available = self._with_headroom = self._candidates = None

    def on_saturation(self, instance: Instance) -> None:
        """Learn that a member has reached its limit, or came back below it: one entry of a list changes."""
        self._candidates = None
        chosen = self._with_headroom
        if chosen is None:
            return
        at = bisect_left(chosen, instance.url, key=_url)
        is_chosen = chosen[at : at + 1] == [instance]
        if instance.is_saturated:
            if is_chosen:
                del chosen[at]
        elif not is_chosen and self._is_available(instance):
            chosen.insert(at, instance)

    def _is_available(self, instance: Instance) -> bool:
        at = bisect_left(self.available, instance.url, key=_url)
        return self.available[at : at + 1] == (instance,)

    def _select(self) -> tuple[Instance, ...]:
        available = self.available
        if self._with_headroom is None:
            self._with_headroom = [instance for instance in available if not instance.is_saturated]
        return available if len(self._with_headroom) == len(available) else tuple(self._with_headroom)

    def __repr__(self) -> str:
        return f"<Group {self.key}: {len(self.candidates())} of {len(self._members)} may be chosen>"
