"""What is known of one request when it is over: the one source of its access line, its metrics, its spans."""

from __future__ import annotations

import msgspec


class RequestRecord(msgspec.Struct, gc=False):
    """Filled by the exchange on the way, read once by ``Telemetry.finish``.

    A mutable Struct, because it is made for every request and its constructor costs a third of ``__init__``'s.
    Times are monotonic seconds; 0.0 means that it never came to that.
    """

    method: str
    endpoint: str  # bounded: a path the router knows, or "unmatched"; the label in metrics
    client: str  # the client's IP address
    started: float  # the first byte of the request's head was read
    path: str = ""  # as the client sent it, for the log; "" = as endpoint
    http_version: str = "1.1"
    tags: str = ""  # made by ``context_tags``: "[trace_id:…] [req_id:…] …", with a space at the end
    first_byte_at: float = 0.0  # the first byte of the instance's answer
    finished_at: float = 0.0
    status: int = 0
    flaw: str = ""  # why an answer is not what was asked for although it was completed
    outcome: str = "completed"  # "completed" | "failed" | "client_gone"
    stream: bool = False
    inference: bool = False  # counts as an inference request, not only as an HTTP one
    mixed: str = ""  # URLs of the instances chosen last, "" = none
    prefill: str = ""
    decode: str = ""
    attempts: int = 0
    key: str = ""  # the name of the client's API key, "" = none was needed
    bytes_out: int = 0  # bytes of the answer handed to the client's connection
