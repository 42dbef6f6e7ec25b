"""The peers: which other processes are alive, by when they were last heard of."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.state.rendezvous import chosen


class Peers:
    """Knows a process for ``lease`` seconds after each of its frames, by this process' own monotonic clock.

    Nobody's time of day is compared with anybody else's, so clocks may be apart by any time.
    """

    def __init__(self, own: str, clock: Callable[[], float], lease: float) -> None:
        self.own = own
        self._clock = clock
        self._lease = lease
        self._heard: dict[str, float] = {}
        self._owners: dict[str, str] = {}  # name → whose it is, as long as the processes are the same
        self._excused_at = float("-inf")
        self._most = 1  # processes at a time, since the bus was last known to work

    def hear(self, process: str) -> bool:
        """Note a sign of life. Returns whether the process wasn't known."""
        is_new = process not in self._heard
        self._heard[process] = self._clock()
        if is_new:
            self._owners.clear()
            self._most = max(self._most, len(self))
        return is_new

    def leave(self, process: str) -> bool:
        """A process said that it ends. Returns whether it was known."""
        was_known = self._heard.pop(process, None) is not None
        self._owners.clear()
        return was_known

    def excuse(self, seconds: float) -> None:
        """Nobody listened for so long: that tells nothing of those who were alive before.

        It counts once a lease: who dies must be found out by a process that is always late, too.
        """
        now = self._clock()
        if now - self._excused_at < self._lease:
            return
        self._excused_at = now
        self._heard = {process: min(now, heard + seconds) for process, heard in self._heard.items()}

    def expire(self) -> list[str]:
        """Forget, and return, those that weren't heard of for a lease."""
        since = self._clock() - self._lease
        gone = [process for process, heard in self._heard.items() if heard < since]
        for process in gone:
            self.leave(process)
        return gone

    def owns(self, name: str) -> bool:
        """Whether ``name`` falls to this process."""
        owner = self._owners.get(name)
        if owner is None:
            owner = self._owners[name] = chosen(name, (self.own, *self._heard))
        return owner == self.own

    def drop_name(self, name: str) -> None:
        """Remember nothing of a name that isn't used any more."""
        self._owners.pop(name, None)

    def settle(self) -> None:
        """The bus works: as many processes as are heard of now is how many there are."""
        self._most = len(self)

    @property
    def size(self) -> int:
        """How many processes there are, this one included; while the bus is down, how many there were."""
        return max(self._most, len(self))

    def others(self) -> tuple[str, ...]:
        """Return those that are alive, without this process."""
        return tuple(self._heard)

    def __len__(self) -> int:
        return len(self._heard) + 1

    def __repr__(self) -> str:
        return f"<Peers {', '.join(self._heard) or 'none'}>"
