"""The corpora beside this file, read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

HERE = Path(__file__).parent
MAX_HEAD_KB = 16
MAX_BODY_MB = 1

PLAIN = b'POST /v1/completions HTTP/1.1\r\n\r\n{"prompt":"x"}'
"""What an instance gets, less what the router writes itself, of the request that most cases are about."""


class RequestCase(msgspec.Struct, frozen=True):
    """One case of ``requests.yaml``, which says what its members mean."""

    name: str
    source: str
    send: bytes
    answers: tuple[int, ...]
    upstream: tuple[bytes, ...]
    closes: bool = False
    request_id: bytes = b""
    then: bytes = b""
    then_answers: tuple[int, ...] = ()


class AnswerCase(msgspec.Struct, frozen=True):
    """One case of ``answers.yaml``, which says what its members mean."""

    name: str
    source: str
    send: bytes
    later: bytes
    closes: bool
    status: int  # 0 where the client must see that the answer is broken
    body: bytes
    kept: bool


def answer_cases() -> list[AnswerCase]:
    """Return the cases of ``answers.yaml``."""
    return [_answer_case(**entry) for entry in _entries("answers.yaml")]


def _answer_case(
    name: str, source: str, send: Any, client: Any, later: Any = "", closes: bool = False, kept: bool = False
) -> AnswerCase:
    seen = client if isinstance(client, dict) else {"status": 0 if client == "broken" else client, "body": "fine"}
    sent = as_bytes(send), as_bytes(later)
    return AnswerCase(name, source, *sent, closes, seen["status"], as_bytes(seen["body"]), kept)


def request_cases() -> list[RequestCase]:
    """Return the cases of ``requests.yaml``."""
    return [_request_case(**entry) for entry in _entries("requests.yaml")]


def _request_case(
    name: str, source: str, send: Any, answers: list[int], upstream: list[Any] | None = None, closes: bool = False,
    request_id: str = "", then: Any = (), then_answers: tuple[int, ...] = (),
) -> RequestCase:  # fmt: skip
    expected = [PLAIN] * [*answers, *then_answers].count(200) if not upstream else [as_bytes(each) for each in upstream]
    if upstream == [] and not then:
        expected = []
    return RequestCase(
        name, source, as_bytes(send), tuple(answers), tuple(expected), closes, as_bytes(request_id), as_bytes(then),
        tuple(then_answers),
    )  # fmt: skip


def _entries(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load((HERE / name).read_text())["cases"]
    return entries


def as_bytes(value: Any) -> bytes:
    """Return the bytes that a corpus writes as a string, a repetition, a sized body, or a list of these."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, dict):
        return b"".join(map(as_bytes, value))
    if "sized" in value:
        body = as_bytes(value["sized"])
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return as_bytes(value["repeat"]) * int(value["times"])
