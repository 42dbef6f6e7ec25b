"""FastDeploy's prefill/decode disaggregation: who can pair, what the two are told of each other, and their body.

Source of the protocol: FastDeploy's router (``golang_router``, ``BuildDisaggregateInfo``) and its documentation.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fd_router.engines.pairing import PairedRequest, Pairing, PairMember, PairPlan, SameBody, with_members
from fd_router.openai.json_splice import drop_members

_OWN_MEMBERS = ("disaggregate_info", "request_id", "completion_token_ids")


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


def plan_first(request: PairedRequest, info: bytes) -> PairPlan:
    """Plan an attempt of a request that no decode instance gave back; ``info`` as ``PairInfos`` gives it.

    The client's body is spliced, never encoded anew. Raises ValueError when it isn't a JSON object.
    """
    body = request.body
    if request.has_router_fields:
        body = request.prepared
        if not body:
            names = _OWN_MEMBERS[:1] if request.has_own_id else _OWN_MEMBERS[:2]
            body = request.prepared = drop_members(request.body, names)
    request_id = request.request_id
    if not request.has_own_id:
        info = b'%b,"request_id":"%b"' % (info, request_id.encode())  # made here: nothing to escape
    return SameBody(request_id, with_members(body, info))


def plan_again(request: PairedRequest, info: bytes) -> PairPlan:
    """Plan a rescheduling: under an id of its own, and with the tokens generated so far."""
    body = drop_members(request.body, _OWN_MEMBERS)
    request_id = f"{request.request_id}-retry{request.reschedules}"
    members = b'%b,"request_id":%b' % (info, msgspec.json.encode(request_id))
    if request.token_ids:
        members += b',"completion_token_ids":' + msgspec.json.encode(request.token_ids)
    return SameBody(request_id, with_members(body, members))


class FastDeployPairing(Pairing):
    """The protocol: both halves of a pair get the same body at once."""

    name = "FastDeploy"

    def __init__(self) -> None:
        self.infos = PairInfos()

    def can_pair(self, prefill: PairMember, decode: PairMember) -> bool:
        """Tell whether TP sizes and versions fit."""
        return can_pair(prefill, decode)

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:
        """Put ``disaggregate_info`` and an id into the client's body."""
        info = self.infos.of(prefill, decode)
        return plan_again(request, info) if request.reschedules else plan_first(request, info)
