"""What is read of a request's precedence: its deadline by a header, else by its key."""

from __future__ import annotations

import pytest

from fd_router.admission.keys import ApiKey
from fd_router.config.live import LiveConfig
from fd_router.config.loading import Config, ServerConfig
from fd_router.errors import BadRequestError
from fd_router.routing.precedence import PrecedenceReader


class Asked:
    def __init__(self, deadline: bytes | None) -> None:
        self._deadline = deadline

    def header(self, name: bytes) -> bytes | None:
        return self._deadline if name == b"x-ttft-deadline-ms" else None


READER = PrecedenceReader(LiveConfig(Config(server=ServerConfig(port=1))), {"high": 16, "normal": 4}, lambda: 100.0)
KEY = ApiKey(name="a", sha256="0" * 64, ttft_deadline_ms=2000)


@pytest.mark.parametrize(
    ("given", "key", "deadline"),
    [
        (None, None, 0.0),
        (b"500", None, 100.5),
        (None, KEY, 102.0),
        (b" 500 ", KEY, 100.5),
        (b"86400000", None, 86_500.0),
    ],
)
def test_a_deadline_is_the_headers_or_else_the_keys(given, key, deadline):
    precedence = READER.read(Asked(given), "high", "key a", key)
    assert (precedence.deadline, precedence.weight, precedence.party) == (pytest.approx(deadline), 16, "key a")
    assert not precedence.refuses_late


@pytest.mark.parametrize("given", [b"", b"0", b"-1", b"1.5", b"soon", b"86400001", b"9" * 50, "٣".encode()])
def test_one_that_is_none_is_refused(given):
    with pytest.raises(BadRequestError, match="x-ttft-deadline-ms: .* is no whole number of ms from 1 to 86400000"):
        READER.read(Asked(given), "high", "", None)
