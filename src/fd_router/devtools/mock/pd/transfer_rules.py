"""What a vLLM or SGLang mock instance of a pair is told of its partner, checked as strictly as the protocol allows.

Written independently of the router's own side, so that a mistake there isn't made here as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fd_router.devtools.mock.options import MockOptions
from fd_router.errors import BadRequestError

NIXL, PUSH, MOONCAKE, SGLANG = "NixlConnector", "NixlPushConnector", "MooncakeConnector", "SGLang"

_PREFILL = {"do_remote_decode": True, "do_remote_prefill": False}
_DECODE = {"do_remote_decode": False, "do_remote_prefill": True}
_KNOWN_IDS = "prompt_token_ids"
_NAMED_IN_PULL = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port")
_NAMED_IN_PUSH = (*_NAMED_IN_PULL, "tp_size", "pp_size", "transfer_id")
_NAMED_IN_MOONCAKE = ("remote_engine_id", "remote_bootstrap_addr", "transfer_id")
_MAX_ROOM = 2**63


class Ticket(NamedTuple):
    """One request of a pair: what both know it by, and, at decode, where its cache is. "": it is served alone."""

    request_id: str
    host: str = ""  # of prefill's side channel
    port: int = 0
    engine_id: str = ""
    digest: str = ""  # of the prompt

    @property
    def key(self) -> str:
        """What tells this attempt from others."""
        return self.request_id


class TransferRules:
    """The rules of one instance. ``host`` and ``port``: where its side channel is."""

    def __init__(self, options: MockOptions, host: str, port: int) -> None:
        self.protocol = SGLANG if options.dialect == "sglang" else options.kv_connector
        self.role = options.role
        self.engine_id = engine_id(options, port)
        self.host, self.port = host, port

    def read(self, body: bytes, headers: Mapping[str, str]) -> Ticket:
        """Read a request. Raises BadRequestError that says what is wrong with it."""
        asked: dict[str, Any] = json.loads(body, object_pairs_hook=_once)
        digest = prompt_digest(asked)
        if self.protocol == SGLANG:
            ticket = self._sglang(asked)
        elif self.role == "prefill":
            ticket = self._vllm_prefill(asked, headers)
        else:
            ticket = self._vllm_decode(asked, headers)
        return ticket._replace(digest=digest)

    def _vllm_prefill(self, asked: Mapping[str, Any], headers: Mapping[str, str]) -> Ticket:
        if asked.get("stream"):
            raise _wrong("a stream of the prefill tells of no cache: stream must be false")
        for name in ("stream_options", "min_tokens", "min_completion_tokens"):
            if asked.get(name) is not None:
                raise _wrong(f"{name} is no prefill instance's to be asked")
        for name in ("max_tokens", "max_completion_tokens"):
            if asked.get(name, 1) != 1:
                raise _wrong(f"{name} is {asked[name]}: a prefill makes one token")
        told = _parameters(asked)
        if told is None:
            raise _wrong("kv_transfer_params is required here")
        _expect(told, {**_PREFILL, **_only(told, _KNOWN_IDS)}, "transfer_id" if self.protocol != NIXL else "")
        if self.protocol == NIXL:
            return Ticket("")  # the one that it makes itself
        if self.protocol == MOONCAKE and headers.get("x-data-parallel-rank") != "0":
            raise _wrong("x-data-parallel-rank must name the rank whose engine decode asks: 0")
        return Ticket(told["transfer_id"])

    def _vllm_decode(self, asked: Mapping[str, Any], headers: Mapping[str, str]) -> Ticket:
        told = _parameters(asked)
        if told is None or set(told) == {_KNOWN_IDS}:
            return Ticket("")
        named = {NIXL: _NAMED_IN_PULL, PUSH: _NAMED_IN_PUSH, MOONCAKE: _NAMED_IN_MOONCAKE}[self.protocol]
        for name in named:
            if not told.get(name):
                raise _wrong(f"{name} is missing")
        if {name: told.get(name) for name in _DECODE} != _DECODE:
            raise _wrong(f"{_DECODE} is expected")
        if self.protocol == NIXL:
            if not told.get("remote_block_ids"):
                raise _wrong("remote_block_ids is missing")
            return Ticket(told["remote_request_id"], told["remote_host"], told["remote_port"], told["remote_engine_id"])
        if self.protocol == PUSH:
            if told["remote_request_id"] != headers.get("x-request-id"):
                raise _wrong("remote_request_id isn't the request's X-Request-Id")
            return Ticket(told["transfer_id"], told["remote_host"], told["remote_port"], told["remote_engine_id"])
        host, port = _address(told["remote_bootstrap_addr"])
        return Ticket(told["transfer_id"], host, port, told["remote_engine_id"])

    def _sglang(self, asked: Mapping[str, Any]) -> Ticket:
        told = [asked.get(name) for name in ("bootstrap_host", "bootstrap_port", "bootstrap_room")]
        number = _prompts(asked)
        if number:
            if any(not isinstance(value, list) or len(value) != number for value in told):
                raise _wrong(f"bootstrap_host, _port and _room must be lists of {number}", "bootstrap")
            if len(set(told[2])) != number:  # type: ignore[arg-type]  # a list
                raise _wrong("rooms must differ", "bootstrap")
            told = [value[0] for value in told]  # type: ignore[index]
        host, port, room = told
        if not isinstance(host, str) or not isinstance(port, int) or not isinstance(room, int):
            raise _wrong("bootstrap_host, bootstrap_port and bootstrap_room are required", "bootstrap")
        if not 0 <= room < _MAX_ROOM:
            raise _wrong(f"bootstrap_room {room} is no room", "bootstrap")
        if self.role == "prefill" and (host, port) != (self.host, self.port):
            raise _wrong(f"the bootstrap server is {host}:{port}, mine is {self.host}:{self.port}", "bootstrap")
        return Ticket(str(room), host, port)


def engine_id(options: MockOptions, port: int) -> str:
    """Return the id of an instance's engine."""
    return f"engine-{options.name or port}"


def prompt_digest(asked: Mapping[str, Any]) -> str:
    """Return what tells a prompt from another one."""
    told = asked.get("kv_transfer_params")
    ids = told.get(_KNOWN_IDS) if isinstance(told, dict) else None
    prompt = ids or [asked.get(name) for name in ("messages", "prompt", "input", "text", "input_ids", "system")]
    return hashlib.sha256(json.dumps(prompt).encode()).hexdigest()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a member that is there twice: each decoder takes another one."""
    names = [name for name, _ in pairs]
    for name in ("kv_transfer_params", "bootstrap_room", "bootstrap_host", "max_tokens", "stream"):
        if names.count(name) > 1:
            raise BadRequestError(f"Invalid request: {name} is there {names.count(name)} times")
    return dict(pairs)


def _parameters(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    told = asked.get("kv_transfer_params")
    if told is not None and not isinstance(told, dict):
        raise _wrong("it is no object")
    return told


def _only(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: told[name]} if name in told else {}


def _expect(told: Mapping[str, Any], expected: Mapping[str, Any], also: str) -> None:
    rest = {name: value for name, value in told.items() if name != also}
    if rest != expected:
        raise _wrong(f"{dict(told)} is told, {dict(expected)} expected")
    if also and not isinstance(told.get(also), str):
        raise _wrong(f"{also} is missing")


def _prompts(asked: Mapping[str, Any]) -> int:
    """Return how long the lists must be, 0: there is one answer, and no list."""
    prompts = next((value for name in ("prompt", "text", "input_ids") if (value := asked.get(name))), None)
    are_several = isinstance(prompts, list) and not isinstance(prompts[0], int)
    number = (len(prompts) if isinstance(prompts, list) and are_several else 1) * (asked.get("n") or 1)
    return number if number > 1 or are_several else 0


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    if not url.startswith("http://") or not port.isdigit():
        raise _wrong(f"remote_bootstrap_addr {url!r} is no http://HOST:PORT")
    return host.strip("[]"), int(port)


def _wrong(what: str, member: str = "kv_transfer_params") -> BadRequestError:
    return BadRequestError(f"Invalid {member}: {what}", code="kv_transfer")
