"""The API keys in force: found by what a client sends, replaced as a whole when their file changes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fd_router.admission.allowance import Allowance
from fd_router.admission.keys import ApiKey, read_keys
from fd_router.admission.priorities import Priorities
from fd_router.http.pace import Pace

Clock = Callable[[], float]

MOST_RECENT = 1024
"""Headers of known keys that are remembered, to be found without hashing."""


class ApiKeyStore:
    """Knows keys by a keyed hash of their hash.

    Nobody outside can tell how a lookup compares: what is compared is salted with bytes that only this process
    knows (as Python's own hashes of byte strings are), so the time that it takes tells nothing about the keys.
    """

    __slots__ = ("_by_mark", "_clock", "_path", "_priorities", "_recent", "_salt", "_seen")

    def __init__(self, path: Path, priorities: Priorities, clock: Clock) -> None:
        self._path = path
        self._priorities = priorities
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._by_mark: Mapping[bytes, Allowance] = {}
        self._recent: dict[bytes, Allowance] = {}  # by headers as they came: most come again and again
        self._seen: tuple[int, int, int] | None = None  # the file's state when it was last read

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def find(self, authorization: bytes) -> Allowance | None:
        """Return the holder of the key in an ``Authorization: Bearer`` header's value, or None."""
        found = self._recent.get(authorization)
        if found is None and (found := self._search(authorization)) is not None:
            if len(self._recent) >= MOST_RECENT:
                self._recent.clear()
            self._recent[authorization] = found
        return found

    def _search(self, authorization: bytes) -> Allowance | None:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        return self._by_mark.get(self._mark(hashlib.sha256(key.strip()).digest()))

    def reload(self) -> int:
        """Read the file again, and return how many keys there are. Raises ConfigError, and changes nothing then."""
        keys = self.read()
        self.replace(keys)
        return len(keys)

    def read(self) -> Sequence[ApiKey]:
        """Return the keys of the file. It may run in a thread: 10,000 take it half a second. Raises ConfigError."""
        self._seen = self._state()  # before the reading, so that a change in between is noticed
        return read_keys(self._path, self._priorities.names)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Let ``keys`` be the keys in force. What a key of the same name has used stays used."""
        for _ in self._replace(keys):
            pass

    async def replace_in_slices(self, keys: Iterable[ApiKey]) -> None:
        """Do the same for thousands, while others have a turn: those before are in force until all are there."""
        pace = Pace()
        for _ in self._replace(keys):
            await pace.breathe()

    def _replace(self, keys: Iterable[ApiKey]) -> Iterator[None]:
        """Replace them key by key."""
        now = self._clock()
        known = {allowance.key.name: allowance for allowance in self._by_mark.values()}
        by_mark = {}
        for key in keys:
            allowance = known.get(key.name)
            if allowance is None:
                allowance = Allowance(key, now)
            else:
                allowance.change(key, now)
            by_mark[self._mark(key.digest)] = allowance
            yield
        self._by_mark = by_mark
        self._recent.clear()

    def forget_reading(self) -> None:
        """What was read last was given up: the file counts as changed."""
        self._seen = None

    def has_changed(self) -> bool:
        """Tell whether the file was changed since it was read."""
        return self._state() != self._seen

    def all(self) -> Iterable[Allowance]:
        """Return the holders of all keys."""
        return self._by_mark.values()

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _mark(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._salt, digest_size=32).digest()

    def __repr__(self) -> str:
        return f"<ApiKeyStore {self._path} {len(self._by_mark)} keys>"
