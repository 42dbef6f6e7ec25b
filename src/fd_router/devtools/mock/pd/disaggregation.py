"""What a prefill or decode mock instance is told of its pair, checked as strictly as the protocol allows.

Written independently of the router's own side, so that a mistake there isn't made here as well.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from fd_router.devtools.mock.completions import Body, given_tokens
from fd_router.devtools.mock.options import MockOptions
from fd_router.errors import BadRequestError

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_ONCE = (b'"disaggregate_info"', b'"request_id"')


class DisaggregateInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``disaggregate_info``: every key is needed, and no other is known."""

    prefill_ip: str
    decode_ip: str
    prefill_connector_port: Port
    decode_connector_port: Port
    decode_device_ids: list[str]
    decode_rdma_ports: list[str]
    transfer_protocol: Literal["ipc", "rdma"]
    decode_tp_size: Annotated[int, msgspec.Meta(ge=1)]


class Pairing(NamedTuple):
    """One request of a pair: its id and who takes part in it."""

    request_id: str
    info: DisaggregateInfo

    @property
    def prefill(self) -> str:
        """The prefill instance's connector, ``ip:port``."""
        return f"{self.info.prefill_ip}:{self.info.prefill_connector_port}"

    @property
    def key(self) -> tuple[str, str]:
        """What tells this attempt from another one with the same id."""
        return self.request_id, self.prefill


class Member(NamedTuple):
    """An instance as it registered: what its partner's messages must agree with."""

    role: str
    host_ip: str
    connector_port: int
    tp_size: int
    device_ids: Sequence[str]
    rdma_ports: Sequence[str]
    protocols: Sequence[str]
    known_prefills: Sequence[str]  # ``ip:port`` of connectors; none: any

    @classmethod
    def of(cls, options: MockOptions, registration: dict[str, Any]) -> Member:
        """Make it of what the instance registers."""
        names = ("host_ip", "connector_port", "tp_size", "device_ids", "rdma_ports", "transfer_protocol")
        host_ip, connector_port, tp_size, device_ids, rdma_ports, protocols = (registration[name] for name in names)
        return cls(
            options.role, host_ip, connector_port, tp_size, device_ids, rdma_ports, protocols, options.known_prefill
        )

    def read(self, body: Body, data: bytes) -> Pairing:
        """Take the pair's keys from a request and check them. Raises BadRequestError that says what is wrong."""
        _refuse_repeated(data)
        if not bytes(body.disaggregate_info):
            raise _wrong("it is required here")
        if not isinstance(body.request_id, str) or not body.request_id:
            raise BadRequestError("Invalid request: request_id must be a string that isn't empty")
        try:
            info = msgspec.json.decode(body.disaggregate_info, type=DisaggregateInfo)
        except msgspec.DecodeError as error:
            raise _wrong(str(error)) from None
        self._check_pair(info)
        if self.role == "prefill":
            self._check_as_prefill(info)
        else:
            self._check_as_decode(info)
        given_tokens(body)
        return Pairing(body.request_id, info)

    def _check_pair(self, info: DisaggregateInfo) -> None:
        for name, value in (("prefill_ip", info.prefill_ip), ("decode_ip", info.decode_ip)):
            if not _is_address(value):
                raise _wrong(f"{name} {value!r} is no IP address")
        for name, port in (
            ("prefill_connector_port", info.prefill_connector_port),
            ("decode_connector_port", info.decode_connector_port),
        ):
            if not port:
                raise _wrong(f"{name} is 0, but every mock instance registers one")
        if info.transfer_protocol == "ipc" and info.prefill_ip != info.decode_ip:
            raise _wrong("transfer_protocol is ipc, but the two are on different hosts")
        if info.transfer_protocol not in self.protocols:
            raise _wrong(f"transfer_protocol {info.transfer_protocol!r} is not among mine, {list(self.protocols)}")

    def _check_as_prefill(self, info: DisaggregateInfo) -> None:
        self._expect("prefill", info.prefill_ip, info.prefill_connector_port)
        if info.decode_tp_size not in {1, self.tp_size}:
            raise _wrong(f"decode_tp_size is {info.decode_tp_size}: neither 1 nor mine, {self.tp_size}")

    def _check_as_decode(self, info: DisaggregateInfo) -> None:
        self._expect("decode", info.decode_ip, info.decode_connector_port)
        for name, told, mine in (
            ("decode_tp_size", info.decode_tp_size, self.tp_size),
            ("decode_device_ids", info.decode_device_ids, list(self.device_ids)),
            ("decode_rdma_ports", info.decode_rdma_ports, list(self.rdma_ports)),
        ):
            if told != mine:
                raise _wrong(f"{name} is {told}, mine is {mine}")
        prefill = f"{info.prefill_ip}:{info.prefill_connector_port}"
        if self.known_prefills and prefill not in self.known_prefills:
            raise _wrong(f"the prefill instance {prefill} is not known here")

    def _expect(self, role: str, ip: str, port: int) -> None:
        if ip != self.host_ip or port != self.connector_port:
            raise _wrong(
                f"{role}_ip and {role}_connector_port are {ip}:{port}, mine {self.host_ip}:{self.connector_port}"
            )


def _refuse_repeated(data: bytes) -> None:
    """Refuse a body with two keys of one name: each decoder takes another one of them."""
    if not any(data.count(name) > 1 for name in _ONCE):  # nearly always enough, and cheap
        return
    outermost: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = [name for name, _ in pairs]  # the outermost object ends last

    json.loads(data, object_pairs_hook=note)
    for name in ("disaggregate_info", "request_id"):
        if outermost.count(name) > 1:
            raise BadRequestError(f"Invalid request: {name} is there {outermost.count(name)} times")


def _is_address(text: str) -> bool:
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


def _wrong(what: str) -> BadRequestError:
    return BadRequestError(f"Invalid disaggregate_info: {what}", code="disaggregate_info")
