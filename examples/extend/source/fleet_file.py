"""A source of instances: a JSON file that is looked at again and again, for a deployment tool to write."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from fd_router.instances.registration import parse_registration
from fd_router.instances.sources.members import SourceMembers


class FleetFile:
    """Names the instances that the file lists: ``[{"role": "mixed", "host_ip": "10.0.0.1", "port": 8000}, …]``.

    The constructor's parameters are its options in the configuration. A file that can't be read raises: the router
    logs that, leaves the instances as they are, and runs this again after a while.
    """

    def __init__(self, path: str, check_secs: float = 1.0) -> None:
        self.name = f"fleet file {path}"
        self._path = Path(path)
        self._check_secs = check_secs

    async def run(self, members: SourceMembers) -> None:
        """Name what the file lists, and again whenever its text is another one."""
        seen = b""
        while True:
            text = self._path.read_bytes()  # a small file of this host; what takes time belongs into a thread
            if text != seen:
                members.replace(parse_registration(entry) for entry in json.loads(text))
                seen = text
            await asyncio.sleep(self._check_secs)
