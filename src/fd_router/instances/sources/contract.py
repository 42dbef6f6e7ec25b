"""The contract of an instance source: what names instances, the router's own and those of a third party alike."""

from __future__ import annotations

from typing import Protocol

from fd_router.instances.sources.members import SourceMembers


class InstanceSource(Protocol):
    """Names instances as long as it runs: once, again and again, or whenever something changes.

    It runs on the router's event loop, so it awaits what takes time. Registrations come from
    ``instances.registration.parse_registration``, which raises RegistrationError for what can't be one.
    """

    @property
    def name(self) -> str:
        """What the log and ``GET /instances`` call it: a word or two."""

    async def run(self, members: SourceMembers) -> None:
        """Name instances by ``members``; cancelled when the router ends.

        When it returns, or raises, its members stay what they are. After an exception it is run again.
        """
