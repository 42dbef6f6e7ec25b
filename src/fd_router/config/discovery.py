"""The options of discoveries: what names instances for others to see to, and is followed as it changes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.options import Option


class DiscoveryConfig(msgspec.Struct, frozen=True):
    """What names instances beside themselves, and is followed as it changes: see [discovery.md](discovery.md)."""

    file: Annotated[
        str,
        Option(
            help="A file with instances, in the form of `register.yaml` (or as JSON), that is followed as it changes: "
            "what it no longer names gets nothing new. One that can't be read, or has a mistake, changes nothing."
        ),
    ] = ""
    file_check_secs: Annotated[
        float,
        Option(help="How often the file is looked at, for whether it has changed.", unit="s", minimum=0.01),
    ] = 1.0
