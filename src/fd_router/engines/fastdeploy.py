"""FastDeploy's dialect of prefill/decode disaggregation: what a pair is told, and what its answers mean.

Source of the protocol: FastDeploy's router (``golang_router``, ``BuildDisaggregateInfo``) and its documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from fd_router.openai.json_splice import add_members, drop_members

_OWN_MEMBERS = ("disaggregate_info", "request_id", "completion_token_ids")

_ERROR_AT_START = re.compile(
    rb'\A(?:[0-9A-Fa-f]+[^\r\n]*\r\n)?\s*(?:data:\s*)?\{\s*"(?:error"\s*:\s*[^n\s]|object"\s*:\s*"error")'
)
"""A stream or an answer that begins with an error object, behind a chunk's size and an event's name."""

ERROR_EVENT = b'data: {"error"'
"""How an error in the middle of a stream begins. No generated text looks so: in it, quotes are escaped."""

_json_decoder = json.JSONDecoder()


class PairMember(Protocol):
    """What an instance registered, as far as the two of a pair must know of each other."""

    @property
    def host_ip(self) -> str: ...
    @property
    def connector_port(self) -> int: ...
    @property
    def device_ids(self) -> Sequence[str]: ...
    @property
    def rdma_ports(self) -> Sequence[str]: ...
    @property
    def transfer_protocol(self) -> Sequence[str]: ...
    @property
    def tp_size(self) -> int: ...
    @property
    def version(self) -> str: ...


class DisaggregateInfo(msgspec.Struct, frozen=True):
    """The body's ``disaggregate_info``: how the prefill instance hands its cache to the decode instance."""

    prefill_ip: str
    decode_ip: str
    prefill_connector_port: int
    decode_connector_port: int
    decode_device_ids: Sequence[str]
    decode_rdma_ports: Sequence[str]
    transfer_protocol: str
    decode_tp_size: int


def can_pair(prefill: PairMember, decode: PairMember) -> bool:
    """Whether the two can serve a request together: TP sizes equal or decode's 1, no two different versions."""
    if decode.tp_size not in (prefill.tp_size, 1):
        return False
    return not prefill.version or not decode.version or prefill.version == decode.version


def disaggregate_info(prefill: PairMember, decode: PairMember) -> DisaggregateInfo:
    """Tell the pair of each other. ``ipc`` only on one host, when both know it and their TP sizes fit."""
    on_one_host = prefill.host_ip == decode.host_ip
    both_know_ipc = "ipc" in prefill.transfer_protocol and "ipc" in decode.transfer_protocol
    sizes_fit = decode.tp_size in (prefill.tp_size, 1)
    return DisaggregateInfo(
        prefill_ip=prefill.host_ip,
        decode_ip=decode.host_ip,
        prefill_connector_port=prefill.connector_port,
        decode_connector_port=decode.connector_port,
        decode_device_ids=decode.device_ids,
        decode_rdma_ports=decode.rdma_ports,
        transfer_protocol="ipc" if on_one_host and both_know_ipc and sizes_fit else "rdma",
        decode_tp_size=decode.tp_size,
    )


class PairInfos:
    """The encoded ``disaggregate_info`` of pairs, kept as long as neither of the two registers anything new."""

    LIMIT = 4096

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[PairMember, PairMember, bytes]] = {}

    def of(self, prefill: PairMember, decode: PairMember) -> bytes:
        """Return the member ``"disaggregate_info":{…}`` for the body of this pair."""
        found = self._known.get((id(prefill), id(decode)))
        if found is not None and found[0] is prefill and found[1] is decode:
            return found[2]
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        encoded = b'"disaggregate_info":' + msgspec.json.encode(disaggregate_info(prefill, decode))
        self._known[id(prefill), id(decode)] = (prefill, decode, encoded)
        return encoded


class PairBody:
    """The client's body as a pair gets it: spliced, never encoded anew.

    ``request_id`` is the client's own ("" if it sent none); ``has_own`` tells that the body has members that the
    router must write itself. Raises ValueError when it isn't a JSON object.
    """

    __slots__ = ("_body", "_keeps_id", "_rest", "request_id")

    def __init__(self, body: bytes, request_id: str, new_id: str, *, has_own: bool) -> None:
        self._body = body
        self._keeps_id = bool(request_id)
        self._rest = b""  # the body without all that the router may write
        self.request_id = request_id or new_id
        if has_own:
            self._body = drop_members(body, _OWN_MEMBERS[:1] if request_id else _OWN_MEMBERS[:2])

    def for_pair(self, info: bytes) -> bytes:
        """Return the body for a first attempt; ``info`` as ``PairInfos`` gives it."""
        if not self._keeps_id:
            info = b'%b,"request_id":"%b"' % (info, self.request_id.encode("ascii"))  # made here: nothing to escape
        return add_members(self._body, info)

    def for_retry(self, info: bytes, number: int, token_ids: Sequence[int]) -> bytes:
        """Return the body for rescheduling ``number``: its own id, and the tokens generated so far."""
        self._rest = self._rest or drop_members(self._body, _OWN_MEMBERS)
        members = b'%b,"request_id":%b' % (info, msgspec.json.encode(retry_id(self.request_id, number)))
        if token_ids:
            members += b',"completion_token_ids":' + msgspec.json.encode(list(token_ids))
        return add_members(self._rest, members)


def retry_id(request_id: str, number: int) -> str:
    """Return the id under which the instances get a request when it is scheduled again for the ``number``-th time."""
    return f"{request_id}-retry{number}" if number else request_id


def begins_with_error(piece: bytes) -> bool:
    """Whether the first piece of an answer's body (chunked or not, an event or not) is an error object."""
    return b'"error"' in piece[:128] and _ERROR_AT_START.match(piece) is not None


def error_message(body: bytes) -> str:
    """Return the message of an error answer, or "". Bounded, since it goes into answers; it may quote the prompt."""
    start = body.find(b"{")
    try:
        answer, _ = _json_decoder.raw_decode(body[start:].decode("utf-8", "replace")) if start >= 0 else (None, 0)
    except (ValueError, RecursionError):
        return ""
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return message[:300] if isinstance(message, str) else ""


def is_rescheduled(body: bytes) -> bool:
    """Whether a decode instance gave a request back for want of memory. ``body``: a whole answer, not streamed."""
    if b"pd_reschedule" not in body and b"PD Error" not in body:  # nearly always: two searches and no parsing
        return False
    answer = _decode_object(body)
    if "PD Error" in error_message(body):
        return True
    return any(choice.get("finish_reason") == "pd_reschedule" for choice in _choices(answer))


def generated_token_ids(body: bytes) -> list[int]:
    """Return the ``completion_token_ids`` of a rescheduled answer, wherever FastDeploy put them."""
    answer = _decode_object(body)
    for choice in _choices(answer):
        message = choice.get("message")
        for place in (choice, message if isinstance(message, dict) else {}):
            ids = place.get("completion_token_ids")
            if isinstance(ids, list) and all(isinstance(item, int) for item in ids):
                return ids
    return []


def _decode_object(body: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _choices(answer: dict[str, Any]) -> list[dict[str, Any]]:
    choices = answer.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
