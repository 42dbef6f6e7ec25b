"""The budget of journals: the bytes that all of them together may keep."""

from __future__ import annotations


class JournalBudget:
    """The bytes that all journals together may keep."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Take ``size`` bytes. Returns False when there aren't so many left."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self.used -= size

    def __repr__(self) -> str:
        return f"<JournalBudget {self.used} of {self.limit} bytes>"
