"""The state file: a source by which instances that registered themselves, and drains, outlive a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from fd_router.errors import UNREADABLE
from fd_router.http.pace import Pace
from fd_router.instances.registration import Registration, decode_registration
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.registry import Registry
from fd_router.instances.source import STATE_FILE
from fd_router.instances.sources.members import Accept, SourceMembers
from fd_router.instances.sources.networks import Hosts, why_outside
from fd_router.telemetry.contracts import Log
from fd_router.threads import in_thread

SAVE_SECS = 1.0
"""How long a change may wait to be written: what a crash may lose, until the next heartbeat."""

LAST_SECS = 5.0
"""How long a router that ends waits for the last write: the file may lie on a network mount that is away."""

READ_SECS = 10.0
"""How long a router that starts waits for the file to be read, for the same reason."""

VERSION = 1


class _State(msgspec.Struct):
    """What the file holds. Registrations are in the schema of ``/register``."""

    instances: list[msgspec.Raw] = []  # to decode all in one call would hold the interpreter's lock
    draining: list[str] = []  # keys, also of instances from lists
    version: int = VERSION


class _Snapshot(msgspec.Struct, frozen=True):
    """The state at one time, not encoded yet: that takes 50 ms for 10,000 instances, too long for the loop.

    In a thread, too, if it were one call: the loop can't run while C code holds the interpreter's lock. So an entry at
    a time, which stands in a line of its own.
    """

    registrations: list[Registration]
    draining: list[str]

    def encoded(self) -> bytes:
        """Return it as the file has it."""
        entries = [msgspec.json.encode(one.as_json()) for one in self.registrations]
        draining = [msgspec.json.encode(key) for key in self.draining]
        return b'{"instances":%b,"draining":%b,"version":%d}\n' % (_lines(entries), _lines(draining), VERSION)


async def _at_once() -> None:
    """Wait for no list."""


class StateFile:
    """Keeps ``path`` equal to the registry's state. Only this object writes there, the whole file at a time.

    Only instances that ``accept`` doesn't raise RegistrationError for come back, and whose addresses are in
    ``networks`` (None: all), as if they registered now.
    """

    name = STATE_FILE.name

    def __init__(
        self,
        path: Path,
        registry: Registry,
        accept: Accept,
        *,
        log: Log,
        networks: Hosts | None = None,
        lists_are_known: Callable[[], Awaitable[object]] = _at_once,
    ) -> None:
        """``lists_are_known`` waits until lists have named their instances, of which some may drain."""
        self.has_named = asyncio.Event()
        """Set once what the file names is known."""
        self._lists_are_known = lists_are_known
        self._networks = networks
        self._path = path
        self._registry = registry
        self._accept = accept
        self._log = log
        self._written: _Snapshot | None = None
        self._problem = ""
        self._is_restoring = self._is_finished = False
        self._turn = asyncio.Lock()  # of who writes

    async def run(self, members: SourceMembers) -> None:
        """Take in what the file names; then write it whenever the state has changed, until cancelled or finished."""
        try:
            await self.restore(members)
        finally:
            self._is_restoring = False
            self.has_named.set()
        while not self._is_finished:
            await self._write()
            await asyncio.sleep(SAVE_SECS)

    async def restore(self, members: SourceMembers) -> int:
        """Name what the file has, to be probed; return how many instances. Never raises: it is only a help.

        In slices: 10,000 take half a second.
        """
        self._is_restoring, restored, pace = True, 0, Pace()
        state = await self._read()
        for entry in state.instances:
            restored += self._take_in(entry, members)
            await pace.breathe()
        await self._lists_are_known()
        for key in state.draining:
            self._registry.set_draining(key, True)
            await pace.breathe()
        if restored:
            self._log.info(f"{restored} instances known from {self._path}; each is probed before it is used")
        return restored

    async def _read(self) -> _State:
        try:
            return await in_thread(partial(_read_state, self._path), limit_secs=READ_SECS)
        except FileNotFoundError:
            return _State()
        except (OSError, *UNREADABLE) as error:  # a TimeoutError is an OSError
            why = f"it takes longer than {READ_SECS:g} s" if isinstance(error, TimeoutError) else error
            self._log.error(f"Failed to read state file {self._path}, starting without it: {why}")
            return _State()

    def _take_in(self, entry: msgspec.Raw, members: SourceMembers) -> bool:
        try:
            registration = decode_registration(bytes(entry))
            self._accept(registration)
            if why := why_outside(self._networks, registration.host_ip):
                raise RegistrationError(why)
        except RegistrationError as error:
            self._log.warn(f"An instance of state file {self._path} is left out: {error.message}")
            return False
        is_new = self._registry.get(registration.key) is None
        return is_new and members.upsert(registration) is not None

    async def finish(self) -> None:
        """Write the file for the last time, if the state has changed: from now on it is the next router's."""
        self._is_finished = True
        if self._is_restoring:  # what isn't known yet must stay in the file
            return
        try:
            async with asyncio.timeout(LAST_SECS):
                await self._write()
        except TimeoutError:
            self._log.error(f"Failed to write state file {self._path}: it takes longer than {LAST_SECS:g} s")

    async def _write(self) -> None:
        """Write the file, if the state has changed: in a thread, since 10,000 instances take it 100 ms."""
        async with self._turn:
            snapshot = self._snapshot()
            if snapshot != self._written:
                self._note(snapshot, await in_thread(partial(self._save, snapshot)))

    def _snapshot(self) -> _Snapshot:
        members = self._registry.all()
        return _Snapshot(
            [x.registration for x in members if not x.source.is_list], [x.key for x in members if x.is_draining]
        )

    def _save(self, snapshot: _Snapshot) -> str:
        """Replace the file as a whole: a reader, or a crash, finds the old state or the new one.

        Returns what went wrong, if something did. It runs in a thread, so it touches nothing but the file.
        """
        data = snapshot.encoded()
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return error.strerror or str(error)
        return ""

    def _note(self, snapshot: _Snapshot, problem: str) -> None:
        if not problem:
            self._written = snapshot
        elif problem != self._problem:  # once, not every second
            self._log.error(f"Failed to write state file {self._path}: {problem}; trying on")
        self._problem = problem


def _read_state(path: Path) -> _State:
    """Read the file, in a thread."""
    return msgspec.json.decode(path.read_bytes(), type=_State)


def _lines(entries: Sequence[bytes]) -> bytes:
    """Write a list, an entry a line."""
    return b"[\n%b\n]" % b",\n".join(entries) if entries else b"[]"
