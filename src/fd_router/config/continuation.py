"""The options of streams that go on at another instance; they stand in section ``proxy``."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.options import Option


class ContinuationConfig(msgspec.Struct, frozen=True):
    """Whether streams survive their instance, and what is kept of them for that."""

    continue_streams: Annotated[
        str,
        Option(
            live=True,
            help="Have another instance go on with a stream whose instance breaks off: by token ids where the stream "
            "tells them, else by text (on); by token ids only (exact); never (off). A request may ask for less by its "
            "header x-router-continue.",
            choices=("on", "exact", "off"),
            flag=True,
        ),
    ] = "on"
    max_continuations: Annotated[
        int,
        Option(
            live=True,
            help="How often one stream may go on at another instance; after two in a row that add no token it breaks.",
            minimum=0,
            maximum=1000,
        ),
    ] = 8
    stream_journal_kb: Annotated[
        int,
        Option(
            live=True,
            help="The most that is kept of one stream, so that another instance can go on with it; a longer one breaks "
            "with its instance.",
            unit="KB",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 8192
    journals_mb: Annotated[
        int,
        Option(
            live=True,
            help="The same of all streams together; beyond it, those that grow break with their instances.",
            unit="MB",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 256
    gap_comment_secs: Annotated[
        float,
        Option(
            live=True,
            help="How often a client is sent a comment (an event that says nothing) while its stream waits for another "
            "instance to go on, so that nobody on the way takes the connection for dead. 0: never.",
            unit="s",
            minimum=0,
            maximum=3600,
        ),
    ] = 10.0
