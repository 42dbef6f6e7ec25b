"""Bodies for mock instances of a pair, made by hand: no router takes part."""

import asyncio
import contextlib
import json

from fd_router.devtools.mock.instance import MockInstance
from fd_router.devtools.mock.options import MockOptions
from tests.support.http_client import fetch

CHAT = "/v1/chat/completions"
FAST = {"prefill_tokens_per_sec": 1e6, "decode_ms_per_token": 1, "decode_ms_per_running": 0}


@contextlib.asynccontextmanager
async def instance(role, *faults, **options):
    made = MockInstance(MockOptions(**{"role": role, "name": role, "fault": faults, **FAST, **options}))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def pair(prefill_faults=(), decode_faults=(), **options):
    async with instance("prefill", *prefill_faults) as prefill, instance("decode", *decode_faults, **options) as decode:
        yield prefill, decode


def info(prefill, decode, **changes):
    """``disaggregate_info`` for the two (instances, or ports); a change to None leaves the key out."""
    ports = [getattr(each, "port", each) for each in (prefill, decode)]
    value = {
        "prefill_ip": "127.0.0.1",
        "decode_ip": "127.0.0.1",
        "prefill_connector_port": ports[0],
        "decode_connector_port": ports[1],
        "decode_device_ids": ["0"],
        "decode_rdma_ports": [str(ports[1])],
        "transfer_protocol": "ipc",
        "decode_tp_size": 1,
        **changes,
    }
    return {key: item for key, item in value.items() if item is not None}


def body(told, request_id="r1", **extra):
    value = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **extra}
    return {**value, "disaggregate_info": told, "request_id": request_id}


async def post(where, value, path=CHAT):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return await fetch("127.0.0.1", where.port, "POST", path, body=data)


async def both(prefill, decode, value):
    """Send ``value`` to both at once, as a router does; return the two answers, prefill's first."""
    return await asyncio.gather(post(prefill, value), post(decode, value))


async def state(where):
    return json.loads((await fetch("127.0.0.1", where.port, "GET", "/mock/state")).body)
