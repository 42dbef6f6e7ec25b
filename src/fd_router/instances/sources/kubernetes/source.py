"""The source that names a cluster's Pods, or Services' endpoints: a list, and watches that go on from it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from fd_router.http.pace import Pace
from fd_router.instances.instance import Readiness
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.sources.kubernetes.api import ApiFailedError, Change, ExpiredError, NotTrustedError, ObjectT
from fd_router.instances.sources.kubernetes.pods import Found
from fd_router.instances.sources.members import SourceMembers

FIRST_RETRY_SECS: Final = 0.5
MAX_RETRY_SECS: Final = 30.0
"""After a failure, and twice as long after each that follows; a random part of it less, for the API server's sake."""

_PREFERENCE = (Readiness.READY, Readiness.UNREADY, Readiness.TERMINATING)
"""Of several Pods or endpoints with the same address, which one counts: a new one before one that ends."""


ReadT_contra = TypeVar("ReadT_contra", contravariant=True)


class Api(Protocol[ObjectT]):
    """The API server; see ``api.ClusterApi``."""

    async def list(self) -> tuple[Sequence[ObjectT], str]:
        """Return all objects and the version from which to watch."""

    def watch(self, version: str) -> AsyncIterator[Change[ObjectT] | None]:
        """Give what changes from then on; None once it has begun."""

    async def close(self) -> None:
        """Close what is open."""


class Reader(Protocol[ReadT_contra]):
    """Says what instances there are in an object; see ``pods.PodReader``, ``slices.SliceReader``."""

    kind: str

    def read(self, told: ReadT_contra, /) -> Sequence[Found]:
        """Return them. Raises RegistrationError for what can't be one."""


class KubernetesInstances(Generic[ObjectT]):
    """Names the instances in objects of a kind.

    One that isn't ready is named once it has been; one that ends gets nothing new.
    """

    def __init__(
        self,
        name: str,
        api: Api[ObjectT],
        reader: Reader[ObjectT],
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = f"kubernetes {name}"
        self._api = api
        self._reader = reader
        self._sleep = sleep
        self._retry_secs = FIRST_RETRY_SECS
        self._found: dict[str, dict[str, Found]] = {}  # by the object's uid: what it has, by key
        self._holders: dict[str, tuple[str, ...]] = {}  # key of an instance → uids of the objects that have it
        self._left_out: dict[str, str] = {}  # uid → why, as the log told

    async def run(self, members: SourceMembers) -> None:
        """Follow the cluster's objects."""
        try:
            version = ""
            while True:
                version = await self._follow(version, members)
        finally:
            await self._api.close()

    async def _follow(self, version: str, members: SourceMembers) -> str:
        """List, unless there is a ``version`` to go on from, and watch. Return the version that was reached, or ""."""
        reached = version
        try:
            if not reached:
                reached = await self._list(members)
                self._retry_secs = FIRST_RETRY_SECS
            pace = Pace()  # an API server may tell of thousands at once
            async for change in self._api.watch(reached):
                if change is None:
                    members.health.worked()
                    self._retry_secs = FIRST_RETRY_SECS
                    continue
                reached = change.object.metadata.resource_version or reached
                if change.type != "BOOKMARK":
                    await self._take(change, members, pace)
            await self._name_all(members)  # also what was banned, or removed by an admin, meanwhile
        except ExpiredError:
            await self._pause()  # an API server that says so again and again isn't asked without a break
            return ""
        except ApiFailedError as error:
            members.health.failed(str(error))
            if isinstance(error, NotTrustedError):
                await self._api.close()  # what is read anew may be trusted
            await self._pause()
        return reached

    async def _pause(self) -> None:
        seconds, self._retry_secs = self._retry_secs, min(2 * self._retry_secs, MAX_RETRY_SECS)
        await self._sleep(seconds * random.uniform(0.5, 1.0))

    async def _list(self, members: SourceMembers) -> str:
        """Make what the API server lists the objects that there are. Return the version from which to watch."""
        listed, version = await self._api.list()
        await self._hold_all(listed, members)
        del listed  # thousands of objects: what matters of them is known now
        await self._name_all(members)
        return version

    async def _hold_all(self, listed: Iterable[ObjectT], members: SourceMembers) -> None:
        self._found, self._holders = {}, {}
        pace = Pace()
        for each in listed:
            self._hold(each, members)
            await pace.breathe()
        self._left_out = {uid: why for uid, why in self._left_out.items() if uid in self._found}

    async def _name_all(self, members: SourceMembers) -> None:
        """Name all instances that there are: thousands, so others have a turn between them."""
        pace = Pace()
        chosen: dict[str, Found] = {}
        for key in self._holders:
            if self._is_named(key, found := self._chosen(key), members):
                chosen[key] = found
            await pace.breathe()
        await members.replace_in_slices(found.registration for found in chosen.values())
        for key, found in chosen.items():
            members.set_readiness(key, found.readiness)
            await pace.breathe()

    async def _take(self, change: Change[ObjectT], members: SourceMembers, pace: Pace) -> None:
        """Take in what has become of one object, which may have a thousand endpoints."""
        await pace.breathe()
        before = self._let_go(change.object.metadata.uid)
        if change.type != "DELETED":
            self._hold(change.object, members)
        else:
            self._left_out.pop(change.object.metadata.uid, None)
        for key in dict.fromkeys((*before, *self._keys(change.object.metadata.uid))):
            self._settle(key, members)
            await pace.breathe()

    def _settle(self, key: str, members: SourceMembers) -> None:
        """Name the instance with ``key`` or no more, by the Pods that have it now."""
        found = self._chosen(key) if key in self._holders else None
        if found is None:
            members.remove(key)
        elif self._is_named(key, found, members):
            members.upsert(found.registration)
            members.set_readiness(key, found.readiness)

    def _is_named(self, key: str, found: Found, members: SourceMembers) -> bool:
        """Tell whether an instance is one: once it has been ready, it is until that is gone."""
        return found.readiness is Readiness.READY or key in members.listed

    def _chosen(self, key: str) -> Found:
        return _best(self._found[uid][key] for uid in self._holders[key])

    def _hold(self, told: ObjectT, members: SourceMembers) -> None:
        uid = told.metadata.uid
        found: dict[str, Found] = {}
        try:
            for each in self._reader.read(told):
                key = each.registration.key
                found[key] = _best((found[key], each)) if key in found else each
        except RegistrationError as error:
            if self._left_out.get(uid) != error.reason:
                self._left_out[uid] = error.reason
                what = f"{self._reader.kind} {told.metadata.full_name}"
                members.warn(f"{what}, which {self.name} names, is left out: {error.reason}")
        else:
            self._left_out.pop(uid, None)
        self._found[uid] = found
        for key in found:
            self._holders[key] = (*self._holders.get(key, ()), uid)

    def _let_go(self, uid: str) -> Sequence[str]:
        """Forget an object; return the keys of its instances."""
        keys = self._keys(uid)
        for key in keys:
            if left := tuple(other for other in self._holders.pop(key) if other != uid):
                self._holders[key] = left
        self._found.pop(uid, None)
        return keys

    def _keys(self, uid: str) -> Sequence[str]:
        return tuple(self._found.get(uid, ()))

    def __repr__(self) -> str:
        return f"<KubernetesInstances {self.name}: {len(self._found)} {self._reader.kind}s>"


def _best(found: Iterable[Found]) -> Found:
    """Return the one that counts; the first of several that are alike."""
    return min(found, key=lambda one: _PREFERENCE.index(one.readiness))
