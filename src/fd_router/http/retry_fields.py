"""What an answer's head says of trying again: ``Retry-After`` (RFC 9110 section 10.2.3) and ``x-should-retry``."""

from __future__ import annotations

import re

from fd_router.http.heads import ResponseHead

_RETRY_AFTER = re.compile(rb"(?im)^retry-after:[ \t]*([^\r\n]*)")
_SECONDS = re.compile(rb"\d{1,9}\Z")
_NOT_AGAIN = re.compile(rb"(?im)^x-should-retry:[ \t]*false[ \t]*\r?$")


def retry_after(head: ResponseHead) -> bytes:
    """Return the value of ``Retry-After`` as it came, b"" if there is none."""
    found = _RETRY_AFTER.search(head.forward)
    return found[1].strip() if found is not None else b""


def retry_after_secs(head: ResponseHead) -> float:
    """Return the seconds of ``Retry-After``, 0.0 if it tells none; a date is as good as none."""
    value = retry_after(head)
    return float(value) if _SECONDS.match(value) else 0.0


def forbids_retry(head: ResponseHead) -> bool:
    """Tell whether the answer says ``x-should-retry: false``: another attempt would do no good."""
    return _NOT_AGAIN.search(head.forward) is not None
